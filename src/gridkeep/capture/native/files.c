/* Small files done right: written whole and durably, and locks that end with their holder. */
#include "shim.h"

#include <sys/file.h>
#include <time.h>

#define PATIENCE_NS 300000000 /* who only looks holds the lock for an instant */
#define PAUSE_NS 10000000

int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The descriptor to keep open, or -1 when another process has it. */
int take_lock(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int64_t deadline = monotonic_ns() + PATIENCE_NS;
    while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (monotonic_ns() > deadline) {
            close(fd);
            return -1;
        }
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    return fd;
}

bool exists(int folder, const char *name)
{
    return faccessat(folder, name, F_OK, 0) == 0;
}

static bool write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            data += written;
            size -= (size_t)written;
        }
    }
    return true;
}

int write_whole(int folder, const char *name, const void *data, size_t size)
{
    char temporary[64];
    snprintf(temporary, sizeof temporary, "%s.%d", name, (int)getpid());
    int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int error = write_all(fd, data, size) && fsync(fd) == 0 ? 0 : errno;
    close(fd);
    if (!error && (renameat(folder, temporary, folder, name) < 0 || fsync(folder) < 0))
        error = errno;
    return error;
}
