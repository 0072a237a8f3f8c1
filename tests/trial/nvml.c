/* Stands in for NVIDIA's management library: GPU 3, and GPU-ab, which tells of its memory alone. */
#include <string.h>

typedef struct { unsigned int gpu, memory; } nvmlUtilization_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;

static char three, other;

int nvmlInit_v2(void) { return 0; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (index != 3) return 6;
    *device = &three;
    return 0;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    if (strcmp(uuid, "GPU-ab")) return 6;
    *device = &other;
    return 0;
}

int nvmlDeviceGetUtilizationRates(void *device, nvmlUtilization_t *found) {
    if (device != &three) return 3;
    *found = (nvmlUtilization_t){30, 10};
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, nvmlMemory_t *found) {
    if (!device) return 2;
    unsigned long long used = device == &three ? 300000000ULL : 700000000ULL;
    *found = (nvmlMemory_t){1000000000ULL, 1000000000ULL - used, used};
    return 0;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    if (device != &three) return 3;
    *milliwatts = 3500;
    return 0;
}
