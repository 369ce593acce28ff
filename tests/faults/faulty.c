/* A machine that fails now and then: a library to be preloaded.
 *
 * In the programs named, of the calls that change what lies under the paths named, some fail, and some are the last:
 *   FAULTY_PROGRAM   words of the command lines of those programs (a path counts as its last part), separated by `:`
 *   FAULTY_PATHS     beginnings of paths, separated by `:`
 *   FAULTY_CHANCE    of one call to fail, 0 to 1: with EIO or ENOSPC; writes may also be short, and a rename or link may
 *                    take place and fail all the same
 *   FAULTY_CALL      only these calls (`unlink`, `fsync`, …) fail
 *   FAULTY_DEATH     of one call to be the last, 0 to 1: SIGKILL instead of it, or in the middle of a write
 *   FAULTY_LIVES     where the files `PATH.0` to `PATH.9` lie: each death takes one of them, and without there is none
 *   FAULTY_SEED      of the random numbers
 *   FAULTY_LOG       gets a line for each fault
 *
 * In every program that has it preloaded, the wall clock is set again and again, the same for all of them:
 *   FAULTY_CLOCK     seed of the settings
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define CLOCK_STAYS 2 /* seconds, about: between two settings */
#define HOUR 3600
#define LIVES 10

static const char *paths, *lives, *only; /* paths NULL: nothing fails in this program */
static double chance, death;
static _Atomic uint64_t state;
static uint64_t clock_seed;
static int log_fd = -1;

/* splitmix64 */
static uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A number in [0, 1). */
static double draw(void) {
    return (double)(mixed(atomic_fetch_add(&state, 0x9e3779b97f4a7c15u) + 0x9e3779b97f4a7c15u) >> 11) / 9007199254740992.0;
}

static double number_in(const char *name) { return getenv(name) ? atof(getenv(name)) : 0; }

/* Whether one of the parts of `list` fits: is a word of a command, or begins a path. */
static int listed(const char *list, const char *text, int whole) {
    for (; *list; list += strcspn(list, ":"), list += *list == ':') {
        size_t length = strcspn(list, ":");
        if (length && strncmp(list, text, length) == 0 && (!whole || text[length] == 0)) return 1;
    }
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *programs = getenv("FAULTY_PROGRAM"), *log = getenv("FAULTY_LOG"), *seed = getenv("FAULTY_SEED");
    static char command[4096];
    if (getenv("FAULTY_CLOCK")) clock_seed = mixed(strtoull(getenv("FAULTY_CLOCK"), NULL, 10) | 1);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, command, sizeof command - 1);
    if (fd >= 0) close(fd);
    if (!programs || !getenv("FAULTY_PATHS")) return;
    for (const char *word = command; word < command + length; word += strlen(word) + 1) {
        const char *slash = strrchr(word, '/');
        if (listed(programs, slash ? slash + 1 : word, 1)) paths = getenv("FAULTY_PATHS");
    }
    if (!paths) return;
    chance = number_in("FAULTY_CHANCE");
    death = number_in("FAULTY_DEATH");
    lives = getenv("FAULTY_LIVES");
    only = getenv("FAULTY_CALL");
    state = strtoull(seed ? seed : "1", NULL, 10) * 2654435761u + (uint64_t)getpid();
    if (log) log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* ---------------------------------------------------------------------------------------------------------- the clock */

/* Seconds by which the wall clock is wrong now: a matter of the machine's uptime alone, so that all programs agree. */
static time_t wrong(void) {
    struct timespec up;
    if (!clock_seed) return 0;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &up);
    uint64_t random = mixed(clock_seed + (uint64_t)(up.tv_sec / CLOCK_STAYS));
    time_t hours = (time_t)(random >> 8) % 24, way = random & 1 ? 1 : -1;
    return random % 8 < 3 ? 0 : random % 8 < 7 ? way * hours * HOUR : way * hours * 40 * 24 * HOUR;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, id, now);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += wrong();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    *now = (struct timeval){.tv_sec = exact.tv_sec, .tv_usec = exact.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

/* --------------------------------------------------------------------------------------------------------- the faults */

static int fd_concerned(int fd) {
    char link[64], target[PATH_MAX];
    if (!paths) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    return listed(paths, target, 0);
}

static int concerned(int dirfd, const char *path) {
    if (!paths || !path) return 0;
    return path[0] == '/' || dirfd == AT_FDCWD ? listed(paths, path, 0) : fd_concerned(dirfd);
}

static void note(const char *call, const char *what) {
    if (log_fd >= 0) dprintf(log_fd, "%s %s\n", call, what);
}

static int dies(void) {
    char life[PATH_MAX];
    if (!lives || draw() >= death) return 0;
    for (int number = 0; number < LIVES; number++) {
        snprintf(life, sizeof life, "%s.%d", lives, number);
        if (syscall(SYS_unlinkat, AT_FDCWD, life, 0) == 0) return 1;
    }
    return 0;
}

static void die(const char *call) {
    note(call, "death");
    kill(getpid(), SIGKILL);
}

/* Whether this call shall fail; then errno is set. */
static int fails(int is_concerned, const char *call) {
    if (!is_concerned) return 0;
    if (dies()) die(call);
    if (draw() >= chance || (only && strcmp(only, call) != 0)) return 0;
    int number = draw() < 0.5 ? EIO : ENOSPC;
    note(call, number == EIO ? "EIO" : "ENOSPC");
    errno = number;
    return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Only what may change something: to read goes well. */
static int open_concerned(int dirfd, const char *path, int flags) {
    return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) && concerned(dirfd, path);
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        return fails(open_concerned(AT_FDCWD, path, flags), "open") ? -1 : NEXT(name)(path, flags, mode);              \
    }
#define OPENAT(name)                                                                                                   \
    int name(int dirfd, const char *path, int flags, ...) {                                                            \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        return fails(open_concerned(dirfd, path, flags), "open") ? -1 : NEXT(name)(dirfd, path, flags, mode);          \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* How much of a write takes place: all, or by chance a part; after a part its program may die. */
static size_t shortened(int is_concerned, size_t size, const char *call, int *last) {
    *last = is_concerned && size > 1 && dies();
    if (!*last && !(is_concerned && size > 1 && !only && draw() < chance)) return size;
    note(call, "short");
    return 1 + (size_t)(draw() * (double)(size - 1));
}

#define WRITE(name, call, parameters, arguments)                                                                       \
    ssize_t name parameters {                                                                                          \
        int is_concerned = fd_concerned(fd), last;                                                                     \
        size = shortened(is_concerned, size, call, &last);                                                             \
        ssize_t result = !last && fails(is_concerned, call) ? -1 : NEXT(name) arguments;                               \
        if (last) die(call);                                                                                           \
        return result;                                                                                                 \
    }
WRITE(write, "write", (int fd, const void *data, size_t size), (fd, data, size))
WRITE(pwrite, "pwrite", (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
WRITE(pwrite64, "pwrite", (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
WRITE(copy_file_range, "copy", (int from, off64_t *start, int fd, off64_t *at, size_t size, unsigned int flags),
      (from, start, fd, at, size, flags))

#define ON_FD(name, call, parameters, arguments)                                                                       \
    int name parameters { return fails(fd_concerned(fd), call) ? -1 : NEXT(name) arguments; }
ON_FD(fsync, "fsync", (int fd), (fd))
ON_FD(fdatasync, "fsync", (int fd), (fd))
ON_FD(sync_file_range, "fsync", (int fd, off64_t from, off64_t size, unsigned int how), (fd, from, size, how))
ON_FD(ftruncate, "truncate", (int fd, off_t size), (fd, size))
ON_FD(ftruncate64, "truncate", (int fd, off64_t size), (fd, size))

#define ON_PATH(name, call, at, parameters, arguments)                                                                 \
    int name parameters { return fails(concerned(at, path), call) ? -1 : NEXT(name) arguments; }
ON_PATH(mkdir, "mkdir", AT_FDCWD, (const char *path, mode_t mode), (path, mode))
ON_PATH(mkdirat, "mkdir", at, (int at, const char *path, mode_t mode), (at, path, mode))
ON_PATH(unlink, "unlink", AT_FDCWD, (const char *path), (path))
ON_PATH(unlinkat, "unlink", at, (int at, const char *path, int flags), (at, path, flags))
ON_PATH(rmdir, "rmdir", AT_FDCWD, (const char *path), (path))

/* A name that may be there although the call failed. */
#define NAMING(name, call, at, path, parameters, arguments)                                                            \
    int name parameters {                                                                                              \
        int number = fails(concerned(at, path), call) ? errno : 0;                                                     \
        int result = number && draw() < 0.5 ? -1 : NEXT(name) arguments;                                               \
        if (!number) return result;                                                                                    \
        errno = number;                                                                                                \
        return -1;                                                                                                     \
    }
NAMING(rename, "rename", AT_FDCWD, new, (const char *old, const char *new), (old, new))
NAMING(renameat, "rename", to, new, (int from, const char *old, int to, const char *new), (from, old, to, new))
NAMING(linkat, "link", to, new, (int from, const char *old, int to, const char *new, int flags),
       (from, old, to, new, flags))
