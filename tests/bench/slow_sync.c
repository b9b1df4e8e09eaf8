/* Preloaded: every fsync and fdatasync takes BENCH_SYNC_MS milliseconds longer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int slowly(const char *name, int fd)
{
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *told = getenv("BENCH_SYNC_MS");
    struct timespec pause = {0, (told ? atol(told) : 0) * 1000000L};
    int result = sync(fd);

    nanosleep(&pause, NULL);
    return result;
}

int fsync(int fd)
{
    return slowly("fsync", fd);
}

int fdatasync(int fd)
{
    return slowly("fdatasync", fd);
}
