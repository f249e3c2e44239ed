"""What happens inside a rehearsed program: phases are noticed, tensors told apart, and a report written at its end.

The program is not changed. Optimizers, backward and modules are watched through PyTorch's own hooks; the bytes are the
caching allocator's statistics and its history.
"""

import atexit
import csv
import gc
import importlib
import json
import os
import sys
import traceback
from contextlib import contextmanager
from weakref import WeakSet

from footprint_inside.history import at_the_peak, own, shown, timeline, told_apart

SETTINGS = json.loads(os.environ["FOOTPRINT_REHEARSAL"])
"""`report`: the folder for reports. `steps`: optimizer steps after which the program ends, or null. `timeline` and
`snapshot`: whether to write them there too. `gpus` and `rank`: the ranks there would be and the one that this is, or
null."""

HISTORY = 2_000_000
"""Entries the allocator may keep."""

_rehearsal = None


def attach(torch):
    """Let small values be real from now on, and watch this process from the moment it first uses the card."""
    from footprint_inside.made_of import places
    from footprint_inside.real_values import RealValues
    from footprint_inside.shown_values import show_no_leftovers

    world = collectives = None
    if SETTINGS["gpus"]:
        from footprint_inside.collectives import Collectives
        from footprint_inside.world import World

        world = World(torch, SETTINGS["gpus"], SETTINGS["rank"])
        world.leave_unless_asked(int(os.environ["RANK"]))
        world.pretend()
        collectives = Collectives(_communicated)
        collectives.watch()
    show_no_leftovers()
    RealValues(collectives).__enter__()
    torch.cuda._lazy_call(lambda: _start(torch, world, places))


def _start(torch, world, places):
    global _rehearsal
    if _rehearsal is None:
        _rehearsal = Rehearsal(torch, world, places)
        _rehearsal.watch()
        atexit.register(_rehearsal.finish, "the program ended")


def _communicated(tensors):
    if _rehearsal is not None:
        _rehearsal.communicated(tensors)


class Peaks:
    """The allocator's peaks by phase. Reading them resets them; what the program itself reads stays as it would be."""

    def __init__(self, torch):
        self._read = torch._C._cuda_memoryStats
        self._reset = torch._C._cuda_resetPeakMemoryStats
        self._device = torch.cuda.current_device
        self._programs = {}
        self.phases = {}
        torch._C._cuda_memoryStats = self._as_the_program_sees_it
        torch._C._cuda_resetPeakMemoryStats = self._as_the_program_resets

    def close(self, phase):
        """End a phase: its peaks are those since the last one ended."""
        found = self._read(self._device())
        self._remember(found)
        seen = self.phases.setdefault(phase, {})
        for name in ("allocated_bytes", "requested_bytes", "reserved_bytes"):
            seen[name] = max(seen.get(name, 0), found[name]["all"]["peak"])
        self._reset(self._device())

    def allocations(self):
        """How many allocations there were so far."""
        return self._read(self._device())["allocation"]["all"]["allocated"]

    def events(self):
        """How many allocations and releases there were so far."""
        return sum(self._read(self._device())["allocation"]["all"][way] for way in ("allocated", "freed"))

    def retries(self):
        """How often the cache had to be emptied for an allocation."""
        return self._read(self._device())["num_alloc_retries"]

    def _remember(self, found):
        for name, pools in found.items():
            for pool, values in pools.items() if isinstance(pools, dict) else ():
                if isinstance(values, dict):
                    key = (name, pool)
                    self._programs[key] = max(self._programs.get(key, 0), values["peak"])

    def _as_the_program_sees_it(self, device):
        found = self._read(device)
        for (name, pool), peak in self._programs.items():
            found[name][pool]["peak"] = max(found[name][pool]["peak"], peak)
        return found

    def _as_the_program_resets(self, device):
        # What the phase has reached until now must not be lost with the program's own reset.
        if _rehearsal is not None:
            self.close(_rehearsal.phase)
        self._programs.clear()
        self._reset(device)


class Rehearsal:
    """One process that uses the card."""

    def __init__(self, torch, world, places):
        self.torch = torch
        self.places = places
        """Where the memory of a tensor begins (`made_of`)."""
        self.world = world
        """The other ranks; None where there are none."""
        self.phase = "build"
        self.entered = [(0, "build")]
        """(allocations and releases so far, the phase that began then)."""
        self.steps = {}
        self.labels = []
        """(allocations so far, {address: kind}) of tensors that are more than activations."""
        self.failures = []
        self._weights_known = False
        self._optimizers = WeakSet()
        """Those that have stepped."""
        self._stepping = None
        """The optimizer whose step is under way."""
        self.written = False
        self.process = os.getpid()

    def watch(self):
        """Begin: history, hooks, peaks."""
        torch = self.torch
        torch.cuda.memory._record_memory_history(enabled="all", context="alloc", stacks="python", max_entries=HISTORY)
        self.peaks = Peaks(torch)
        torch._C._cuda_attach_out_of_memory_observer(self._out_of_memory)
        torch.nn.modules.module.register_module_forward_pre_hook(self._forward)
        optimizers = importlib.import_module("torch.optim.optimizer")  # not an attribute of torch.optim
        optimizers.register_optimizer_step_pre_hook(self._before_step)
        optimizers.register_optimizer_step_post_hook(self._after_step)
        backward = torch.autograd.backward

        def watched(*args, **kwargs):
            self._enter("backward")
            self._label_weights()
            return backward(*args, **kwargs)

        torch.autograd.backward = watched

    def _enter(self, phase):
        if phase != self.phase:
            self.peaks.close(self.phase)
            self.phase = phase
            self.entered.append((self.peaks.events(), phase))

    def _forward(self, module, inputs):
        if self.phase != "forward" and module.training and self.torch.is_grad_enabled() and self.phase != "backward":
            self._label_weights()  # before FSDP gathers them
            self._enter("forward")

    def _before_step(self, optimizer, args, kwargs):
        self._enter("step")
        self._stepping = optimizer
        self._optimizers.add(optimizer)  # gradients for another one are gradients, too
        found = {}
        for parameter in (each for one in self._optimizers for each in _parameters(one)):
            found |= self._kind("weights", parameter) | self._kind("gradients", parameter.grad)
        self._label(found)

    def _after_step(self, optimizer, args, kwargs):
        self._label(self._states(optimizer))
        self._stepping = None
        self._enter("between")
        self.steps[id(optimizer)] = self.steps.get(id(optimizer), 0) + 1
        if SETTINGS["steps"] and max(self.steps.values()) >= SETTINGS["steps"]:
            self.finish(f"ended after {SETTINGS['steps']} optimizer steps, as --steps asked")
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)  # the program has more steps to make, and its clean-up would make them

    def _label_weights(self):
        """Once; later ones are told by the optimizer."""
        if not self._weights_known:
            self._weights_known = True
            self._label(self._weights())

    def _weights(self):
        """The parameters and buffers of every module there is, frozen and quantized ones too."""
        found = {}
        for thing in gc.get_objects():
            if issubclass(type(thing), self.torch.nn.Module):  # isinstance would wake lazy objects
                found |= self._kind("weights", *thing._parameters.values(), *thing._buffers.values())
        return found

    def _states(self, optimizer):
        states = (state for state in optimizer.state.values() if isinstance(state, dict))
        return self._kind("optimizer", *(value for state in states for value in state.values()))

    def _kind(self, kind, *tensors):
        return {place: kind for tensor in tensors for place in self.places(tensor)}

    def communicated(self, tensors):
        """Tensors that a collective gathers into or reduces: buffers, where they are nothing else."""
        self._label(self._kind("communication", *tensors))

    def _label(self, found):
        found.pop(0, None)
        self.labels.append((self.peaks.allocations(), found))

    def _out_of_memory(self, device, asked, total, free):
        self._label_weights()
        if self._stepping is not None:
            self._label(self._states(self._stepping))
        place = next((shown(frame) for frame in reversed(own(traceback.extract_stack()))), None)
        self.failures.append({"phase": self.phase, "asked": asked, "total": total, "free": free, "line": place})

    def finish(self, ended):
        """Write the report, once."""
        if self.written or os.getpid() != self.process:
            return
        self.written = True
        self.peaks.close(self.phase)
        report = {
            "process": self.process,
            "program": sys.argv,
            "torch": self.torch.__version__,
            "ended": ended,
            "rank": self.world.rank if self.world is not None and self.world.started else None,
            "phases": self.peaks.phases,
            "steps": max(self.steps.values(), default=0),
            "retries": self.peaks.retries(),
            "failures": self.failures,
        }
        history = self.torch.cuda.memory._snapshot()["device_traces"][self.torch.cuda.current_device()]
        events = [entry for entry in history if entry["action"] in ("alloc", "free_completed")]
        changes = told_apart(events, self.labels)
        report.update(at_the_peak(changes))
        if SETTINGS["timeline"]:
            with self._whole("csv") as path, open(path, "w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(timeline(changes, self.entered))
        if SETTINGS["snapshot"]:
            with self._whole("pickle") as path:
                self.torch.cuda.memory._dump_snapshot(path)
        with self._whole("json") as path, open(path, "w") as file:
            json.dump(report, file)

    @contextmanager
    def _whole(self, kind):
        """Where to write a file of this process; it is in the folder for reports only once it is whole."""
        path = os.path.join(SETTINGS["report"], f"{self.process}.{kind}")
        yield path + ".part"
        os.replace(path + ".part", path)


def _parameters(optimizer):
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
