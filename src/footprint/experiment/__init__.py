"""The config as a whole.

Comes in: YAML files. Goes out: one frozen `Experiment` with every run it names, or one sentence that says what is wrong
and what is allowed. Never imports what runs or shows an experiment.
"""
