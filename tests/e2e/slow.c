/* A slow disk for one file: a library to be preloaded. Each call that writes or syncs a file whose path holds SLOW_FILE
 * takes SLOW_MS milliseconds longer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void wait_if_slow(int fd) {
    const char *word = getenv("SLOW_FILE"), *milliseconds = getenv("SLOW_MS");
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!word || !milliseconds || length < 0) return;
    path[length] = 0;
    long pause = atol(milliseconds);
    if (strstr(path, word)) nanosleep(&(struct timespec){pause / 1000, pause % 1000 * 1000000}, NULL);
}

#define SLOWED(type, name, parameters, arguments)                     \
    type name parameters {                                             \
        type(*real) parameters = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
        wait_if_slow(fd);                                              \
        return real arguments;                                         \
    }

SLOWED(int, fsync, (int fd), (fd))
SLOWED(int, fdatasync, (int fd), (fd))
SLOWED(int, ftruncate64, (int fd, off_t length), (fd, length))
SLOWED(ssize_t, pwrite64, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
SLOWED(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
