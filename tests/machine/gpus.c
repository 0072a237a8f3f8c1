/* Stands in for NVIDIA's management library. A process has what its file says, while it lives:
   $FAKE_GPUS/<number of the GPU>/<pid> holds bytes. Each GPU has $FAKE_GPU_BYTES of memory. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef struct {
    unsigned int pid;
    unsigned long long usedGpuMemory;
    unsigned int gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t;

static int places[16];

int nvmlInit_v2(void) { return 0; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (index >= 16) return 2;
    places[index] = (int)index;
    *device = &places[index];
    return 0;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) { return 6; }

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, nvmlProcessInfo_t *found) {
    char path[4096];
    unsigned int room = *count;
    snprintf(path, sizeof path, "%s/%d", getenv("FAKE_GPUS"), *(int *)device);
    DIR *folder = opendir(path);
    *count = 0;
    if (!folder) return 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        int pid = atoi(entry->d_name);
        if (pid <= 0 || kill(pid, 0)) continue;
        snprintf(path, sizeof path, "%s/%d/%d", getenv("FAKE_GPUS"), *(int *)device, pid);
        FILE *file = fopen(path, "r");
        unsigned long long used = 0;
        if (file && fscanf(file, "%llu", &used) == 1 && *count < room)
            found[(*count)++] = (nvmlProcessInfo_t){(unsigned int)pid, used, 0, 0};
        if (file) fclose(file);
    }
    closedir(folder);
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, nvmlMemory_t *found) {
    nvmlProcessInfo_t processes[64];
    unsigned int count = 64;
    nvmlDeviceGetComputeRunningProcesses_v3(device, &count, processes);
    unsigned long long total = strtoull(getenv("FAKE_GPU_BYTES"), NULL, 10), used = 0;
    for (unsigned int i = 0; i < count; i++) used += processes[i].usedGpuMemory;
    *found = (nvmlMemory_t){total, total - used, used};
    return 0;
}

int nvmlDeviceGetUtilizationRates(void *device, void *found) { return 3; }

int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) { return 3; }
