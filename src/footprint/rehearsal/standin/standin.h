/* The stand-in for NVIDIA's runtime: a card that has memory and properties, and computes nothing.

   PyTorch's CUDA build decides on the host what it allocates: by shapes, by autograd, by libraries that ask for
   workspaces, and by its caching allocator. None of it needs a kernel to run. So this library answers the calls that
   say what the card is, hands out addresses for the memory that is asked for until the card is full, and lets every
   kernel return at once. Nothing of NVIDIA's is needed, not even headers: what callers pass is declared here.

   Compile with -DCUDA_VERSION=<as cudart's CUDART_VERSION, for instance 13000>. */
#ifndef STANDIN_H
#define STANDIN_H

#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* Statuses of the runtime (cudaError_t) and of the driver (CUresult) that are told apart by callers. */
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, NOT_SUPPORTED = 801 };

/* The card that is imitated, from the environment variable FOOTPRINT_CARD: its fields in this order, joined by `;`. */
struct card {
    char name[256];
    int major, minor;              /* compute capability */
    int multiprocessors, threads, blocks;  /* threads and blocks: resident at most on one multiprocessor */
    size_t block_memory;           /* bytes of shared memory a block may opt into */
    size_t shared_memory;          /* bytes of shared memory of one multiprocessor */
    size_t cache;                  /* bytes of level-2 cache */
    size_t total;                  /* bytes as the driver reports them */
    size_t context;                /* bytes that the first use of the card takes */
    int devices;                   /* how many such cards this machine pretends to have */
};
const struct card *card(void);

/* Cards that a machine may pretend to have; those beyond share the last one's memory. */
enum { MOST_DEVICES = 64 };

/* Cards that CUDA_VISIBLE_DEVICES leaves to this process. */
int visible_devices(void);

/* The card that this thread has chosen with cudaSetDevice. */
int chosen_device(void);

/* Bytes of a card's memory that this process has taken, without the context. */
size_t memory_taken(int device);

/* Address space for `size` bytes as the driver hands it out; 0 when there is none. */
void *reserve(size_t size);

/* Take `size` bytes from a card, or give them back; OUT_OF_MEMORY when they do not fit beside the context. */
int take(int device, size_t size);
void give(int device, size_t size);

/* Print why the rehearsal cannot go on and abort. */
__attribute__((noreturn)) void refuse(const char *symbol, const char *why);

/* An opaque handle that callers only pass back. */
void *handle(void);

/* The value of a device attribute (cudaDeviceAttr and CUdevice_attribute share their numbers). */
int attribute(int which);

/* Resident blocks of a kernel on one multiprocessor, as far as threads and shared memory bound them. */
int resident_blocks(int threads, size_t shared);

#endif
