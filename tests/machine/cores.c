/* A machine with eight cores, for what asks how many there are. */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
    memset(set, 0, size);
    for (int core = 0; core < 8; core++) CPU_SET_S(core, size, set);
    return 0;
}
