/* The card: read from the environment once, described to whoever asks. */
#define _GNU_SOURCE
#include "standin.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct card the_card;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void refuse(const char *symbol, const char *why) {
    fprintf(stderr, "\nfootprint: %s cannot be rehearsed: %s\n", symbol, why);
    const char *path = getenv("FOOTPRINT_REFUSAL");
    FILE *file = path ? fopen(path, "w") : 0;
    if (file) {
        fprintf(file, "%s cannot be rehearsed: %s\n", symbol, why);
        fclose(file);
    }
    abort();
}

static void read_card(void) {
    const char *text = getenv("FOOTPRINT_CARD");
    struct card *c = &the_card;
    int read = !text ? 0 : sscanf(text, "%255[^;];%d;%d;%d;%d;%d;%zu;%zu;%zu;%zu;%zu;%d", c->name, &c->major, &c->minor,
        &c->multiprocessors, &c->threads, &c->blocks, &c->block_memory, &c->shared_memory, &c->cache, &c->total,
        &c->context, &c->devices);
    if (read != 12)
        refuse("the card", "the environment variable FOOTPRINT_CARD does not describe one; start with footprint rehearse");
}

const struct card *card(void) {
    pthread_once(&once, read_card);
    return &the_card;
}

int visible_devices(void) {
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    if (!text) return card()->devices;
    int count = 0;
    /* As CUDA reads it: up to the first entry that is no device. Names such as GPU-5a5a... are one each. */
    for (const char *at = text; *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : at + strlen(at)) {
        if (*at == '-' || *at == ',' || (*at >= '0' && *at <= '9' && atoi(at) >= card()->devices)) break;
        count++;
    }
    return count;
}

void *handle(void) {
    return calloc(1, 64);
}

/* Numbers of cudaDeviceAttr. */
int attribute(int which) {
    const struct card *c = card();
    switch (which) {
        case 1: case 2: case 3: return 1024;             /* threads of a block; its x and y */
        case 4: return 64;                               /* its z */
        case 5: return 2147483647;                       /* blocks of a grid, x */
        case 6: case 7: return 65535;                    /* y and z */
        case 8: return 49152;                            /* shared memory of a block without opting in */
        case 10: return 32;                              /* threads of a warp */
        case 12: case 82: return 65536;                  /* registers of a block; of a multiprocessor */
        case 14: return 512;                             /* texture alignment */
        case 16: return c->multiprocessors;
        case 38: return (int)c->cache;
        case 39: return c->threads;
        case 41: case 83: case 89: case 95: case 115: return 1;  /* unified addresses, managed memory, cooperative launch, pools */
        case 75: return c->major;
        case 76: return c->minor;
        case 81: return (int)c->shared_memory;
        case 97: return (int)c->block_memory;
        case 102: return 1;                              /* virtual memory management */
        case 106: return c->blocks;
        case 111: return c->major >= 8 ? 1024 : 0;       /* shared memory that the system keeps of each block */
        default: return 0;
    }
}

int resident_blocks(int threads, size_t shared) {
    const struct card *c = card();
    int blocks = c->threads / (threads > 0 ? threads : 1);
    if (blocks > c->blocks) blocks = c->blocks;
    if (shared && blocks > (int)(c->shared_memory / shared)) blocks = (int)(c->shared_memory / shared);
    return blocks < 1 ? 1 : blocks;
}

/* cudaDeviceProp: where its fields lie, in bytes, which differs between CUDA 12 and 13. */
#if CUDA_VERSION >= 13000
enum { PROPERTIES = 1008, MULTIPROCESSORS = 384, INTEGRATED = 388, MAPS_HOST = 392, CONCURRENT = 560, ECC = 564, BUS = 568,
       ENGINES = 584, UNIFIED = 588, BUS_WIDTH = 592, CACHE = 596, THREADS = 604, PRIORITIES = 608, SHARED = 624,
       REGISTERS = 632, MANAGED = 636, CONCURRENT_MANAGED = 656, COOPERATIVE = 668, OPTIN = 672, BLOCKS = 688,
       RESERVED = 696, POOLS = 720 };
#else
enum { PROPERTIES = 1032, MULTIPROCESSORS = 388, INTEGRATED = 396, MAPS_HOST = 400, CONCURRENT = 576, ECC = 580, BUS = 584,
       ENGINES = 600, UNIFIED = 604, BUS_WIDTH = 612, CACHE = 616, THREADS = 624, PRIORITIES = 628, SHARED = 640,
       REGISTERS = 648, MANAGED = 652, CONCURRENT_MANAGED = 676, COOPERATIVE = 688, OPTIN = 696, BLOCKS = 712,
       RESERVED = 720, POOLS = 744 };
#endif
enum { UUID = 256, TOTAL = 288, BLOCK_SHARED = 296, BLOCK_REGISTERS = 304, WARP = 308, PITCH = 312, BLOCK_THREADS = 320,
       BLOCK_DIMENSIONS = 324, GRID_DIMENSIONS = 336, CONSTANT = 352, MAJOR = 360, MINOR = 364, TEXTURE = 368 };

static void put_int(char *at, int value) { memcpy(at, &value, sizeof value); }
static void put_size(char *at, size_t value) { memcpy(at, &value, sizeof value); }

static int describe(char *p, int device) {
    const struct card *c = card();
    if (device < 0 || device >= visible_devices()) return INVALID_DEVICE;
    memset(p, 0, PROPERTIES);
    snprintf(p, 256, "%s", c->name);
    memset(p + UUID, 0x5a, 15);
    p[UUID + 15] = (char)device;
    put_size(p + TOTAL, c->total);
    put_size(p + BLOCK_SHARED, 49152);
    put_int(p + BLOCK_REGISTERS, 65536);
    put_int(p + WARP, 32);
    put_size(p + PITCH, 2147483647);
    put_int(p + BLOCK_THREADS, 1024);
    for (int i = 0; i < 3; i++) {
        put_int(p + BLOCK_DIMENSIONS + 4 * i, attribute(2 + i));
        put_int(p + GRID_DIMENSIONS + 4 * i, attribute(5 + i));
    }
    put_size(p + CONSTANT, 65536);
    put_int(p + MAJOR, c->major);
    put_int(p + MINOR, c->minor);
    put_size(p + TEXTURE, 512);
    put_int(p + MULTIPROCESSORS, c->multiprocessors);
    put_int(p + MAPS_HOST, 1);
    put_int(p + CONCURRENT, 1);
    put_int(p + ECC, 1);
    put_int(p + BUS, 4 + device);
    put_int(p + ENGINES, 3);
    put_int(p + UNIFIED, 1);
    put_int(p + BUS_WIDTH, 256);
    put_int(p + CACHE, (int)c->cache);
    put_int(p + THREADS, c->threads);
    put_int(p + PRIORITIES, 1);
    put_size(p + SHARED, c->shared_memory);
    put_int(p + REGISTERS, 65536);
    put_int(p + MANAGED, 1);
    put_int(p + CONCURRENT_MANAGED, 1);
    put_int(p + COOPERATIVE, 1);
    put_size(p + OPTIN, c->block_memory);
    put_int(p + BLOCKS, c->blocks);
    put_size(p + RESERVED, attribute(111));
    put_int(p + POOLS, 1);
    return SUCCESS;
}

EXPORT int cudaGetDeviceProperties(char *p, int device) { return describe(p, device); }
EXPORT int cudaGetDeviceProperties_v2(char *p, int device) { return describe(p, device); }

EXPORT int cudaDeviceGetAttribute(int *value, int which, int device) {
    (void)device;
    *value = attribute(which);
    return SUCCESS;
}

EXPORT int cudaGetDeviceCount(int *count) {
    *count = visible_devices();
    return *count ? SUCCESS : NO_DEVICE;
}

static __thread int current_device;

int chosen_device(void) { return current_device; }

EXPORT int cudaGetDevice(int *device) {
    *device = current_device;
    return visible_devices() ? SUCCESS : NO_DEVICE;
}

EXPORT int cudaSetDevice(int device) {
    if (device < 0 || device >= visible_devices()) return INVALID_DEVICE;
    current_device = device;
    return SUCCESS;
}

EXPORT int cudaDriverGetVersion(int *version) { *version = CUDA_VERSION; return SUCCESS; }
EXPORT int cudaRuntimeGetVersion(int *version) { *version = CUDA_VERSION; return SUCCESS; }

EXPORT int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return SUCCESS;
}

EXPORT int cudaDeviceCanAccessPeer(int *can, int a, int b) { (void)a; (void)b; *can = 0; return SUCCESS; }

EXPORT int cudaDeviceGetPCIBusId(char *text, int length, int device) {
    snprintf(text, length, "0000:00:%02x.0", 4 + device);
    return SUCCESS;
}

EXPORT const char *cudaGetErrorName(int error) {
    switch (error) {
        case SUCCESS: return "cudaSuccess";
        case OUT_OF_MEMORY: return "cudaErrorMemoryAllocation";
        case NO_DEVICE: return "cudaErrorNoDevice";
        case INVALID_DEVICE: return "cudaErrorInvalidDevice";
        case NOT_SUPPORTED: return "cudaErrorNotSupported";
        default: return "cudaErrorInvalidValue";
    }
}

EXPORT const char *cudaGetErrorString(int error) {
    switch (error) {
        case SUCCESS: return "no error";
        case OUT_OF_MEMORY: return "out of memory";
        case NO_DEVICE: return "no CUDA-capable device is detected";
        case INVALID_DEVICE: return "invalid device ordinal";
        case NOT_SUPPORTED: return "operation not supported";
        default: return "invalid argument";
    }
}
