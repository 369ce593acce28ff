/* A disk that fails now and then, for one program and one folder: a library to be preloaded.
 *
 *   FAULTY_PROGRAM   a word of the command line of the processes that it acts in; in all others it does nothing
 *   FAULTY_FOLDER    below which calls fail
 *   FAULTY_CHANCE    of one call to fail, 0 to 1
 *   FAULTY_SEED      of the random numbers
 *   FAULTY_LOG       gets a line for each fault
 *
 * Calls fail with EIO or ENOSPC; writes may also be short, and a rename or link may take place and fail all the same.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *folder;
static double chance;
static _Atomic uint64_t state;
static int log_fd = -1;

__attribute__((constructor)) static void begin(void) {
    const char *program = getenv("FAULTY_PROGRAM"), *under = getenv("FAULTY_FOLDER"), *log = getenv("FAULTY_LOG");
    static char command[4096];
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, command, sizeof command - 1);
    if (fd >= 0) close(fd);
    if (!program || !under || length <= 0) return;
    for (const char *word = command; word < command + length; word += strlen(word) + 1)
        if (strcmp(word, program) == 0) folder = under;
    if (!folder) return;
    chance = atof(getenv("FAULTY_CHANCE") ? getenv("FAULTY_CHANCE") : "0");
    state = strtoull(getenv("FAULTY_SEED") ? getenv("FAULTY_SEED") : "1", NULL, 10) * 2654435761u + (uint64_t)getpid();
    if (log) log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* splitmix64; a number in [0, 1) */
static double draw(void) {
    uint64_t z = atomic_fetch_add(&state, 0x9e3779b97f4a7c15u) + 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static int below(const char *path) {
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int fd_below(int fd) {
    char link[64], target[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    return below(target);
}

static int path_below(int dirfd, const char *path) {
    return folder && (path[0] == '/' || dirfd == AT_FDCWD ? below(path) : fd_below(dirfd));
}

/* Whether this call shall fail; then errno is set. */
static int fails(int concerned, const char *call) {
    if (!concerned || draw() >= chance) return 0;
    int number = draw() < 0.5 ? EIO : ENOSPC;
    if (log_fd >= 0) dprintf(log_fd, "%s %s\n", call, number == EIO ? "EIO" : "ENOSPC");
    errno = number;
    return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        return fails(path_below(AT_FDCWD, path), "open") ? -1 : NEXT(name)(path, flags, mode);                         \
    }
#define OPENAT(name)                                                                                                   \
    int name(int dirfd, const char *path, int flags, ...) {                                                            \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        return fails(path_below(dirfd, path), "open") ? -1 : NEXT(name)(dirfd, path, flags, mode);                     \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size) {
    int concerned = folder && fd_below(fd);
    if (concerned && size > 1 && draw() < chance) {
        if (log_fd >= 0) dprintf(log_fd, "write short\n");
        size = 1 + (size_t)(draw() * (double)(size - 1));
    }
    return fails(concerned, "write") ? -1 : NEXT(write)(fd, data, size);
}

int fsync(int fd) { return fails(folder && fd_below(fd), "fsync") ? -1 : NEXT(fsync)(fd); }

int ftruncate64(int fd, off64_t size) {
    return fails(folder && fd_below(fd), "ftruncate") ? -1 : NEXT(ftruncate64)(fd, size);
}

int mkdirat(int dirfd, const char *path, mode_t mode) {
    return fails(path_below(dirfd, path), "mkdir") ? -1 : NEXT(mkdirat)(dirfd, path, mode);
}

int renameat(int from, const char *old, int to, const char *new) {
    int number = fails(path_below(to, new), "rename") ? errno : 0;
    int result = number && draw() < 0.5 ? -1 : NEXT(renameat)(from, old, to, new);
    if (!number) return result;
    errno = number;
    return -1;
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
    int number = fails(path_below(to, new), "link") ? errno : 0;
    int result = number && draw() < 0.5 ? -1 : NEXT(linkat)(from, old, to, new, flags);
    if (!number) return result;
    errno = number;
    return -1;
}
