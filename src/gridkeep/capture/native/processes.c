/* Processes seen from outside: descendants, their names, the exit status of one that is not our child. */
#include "shim.h"

#include <dirent.h>
#include <linux/sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>

/* linux/pidfd.h since Linux 6.13, the exit code since 6.15; older headers lack them. */
struct exit_info {
    uint64_t mask, cgroup;
    uint32_t ids[11];
    int32_t exit_code;
};
#define INFO_EXIT (1 << 3)
#define GET_INFO _IOWR(0xFF, 11, struct exit_info)

#define PATIENCE_NS 2000000000 /* how long the exit code may take: until the one who is the parent now has reaped it */
#define PAUSE_NS 10000000

static ssize_t read_proc(pid_t pid, const char *name, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t length = read(fd, text, size - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    return length;
}

void program_name(pid_t tid, char name[16])
{
    char text[64];
    if (read_proc(tid, "comm", text, sizeof text) <= 0)
        strcpy(text, "?");
    text[strcspn(text, "\n")] = 0;
    snprintf(name, 16, "%.15s", text);
}

pid_t thread_group(pid_t tid)
{
    char text[4096];
    const char *line;
    if (read_proc(tid, "status", text, sizeof text) > 0 && (line = strstr(text, "\nTgid:")))
        return atoi(line + strlen("\nTgid:"));
    return tid;
}

/* The state and parent of a process: what follows its name, which may hold any bytes, in its stat. */
static bool look_at(pid_t pid, char *state, pid_t *parent)
{
    char text[512];
    if (read_proc(pid, "stat", text, sizeof text) <= 0)
        return false;
    const char *behind = strrchr(text, ')');
    return behind && sscanf(behind, ") %c %d", state, parent) == 2;
}

char process_state(pid_t pid)
{
    char state;
    pid_t parent;
    return look_at(pid, &state, &parent) ? state : 'X';
}

struct process {
    pid_t pid, parent;
};

static int by_pid(const void *one, const void *other)
{
    pid_t a = ((const struct process *)one)->pid, b = ((const struct process *)other)->pid;
    return (a > b) - (a < b);
}

static size_t all_processes(struct process **all)
{
    size_t count = 0, room = 0;
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc && (entry = readdir(proc))) {
        struct process one = {.pid = atoi(entry->d_name)};
        char state;
        if (one.pid <= 0 || !look_at(one.pid, &state, &one.parent))
            continue;
        if (count == room) {
            struct process *more = realloc(*all, (room = 2 * room + 64) * sizeof one);
            if (!more)
                break;
            *all = more;
        }
        (*all)[count++] = one;
    }
    if (proc)
        closedir(proc);
    return count;
}

size_t descendants(pid_t ancestor, pid_t **pids)
{
    struct process *all = NULL;
    size_t count = all_processes(&all), found = 0;
    *pids = malloc((count + 1) * sizeof **pids);
    if (!*pids)
        count = 0;
    if (count)
        qsort(all, count, sizeof *all, by_pid);
    for (size_t i = 0; i < count; i++) {
        /* Up from parent to parent; the bound is for a table that changed while it was read. */
        const struct process *above = &all[i];
        for (size_t steps = 0; above && above->parent != ancestor && steps < count; steps++)
            above = bsearch(&(struct process){.pid = above->parent}, all, count, sizeof *all, by_pid);
        if (above && above->parent == ancestor)
            (*pids)[found++] = all[i].pid;
    }
    free(all);
    return found;
}

pid_t fork_aside(int *pidfd)
{
    /* No exit signal: then wait() without __WALL does not see it, and says ECHILD when the script's tree is gone. */
    return (pid_t)syscall(SYS_clone, CLONE_PIDFD, NULL, pidfd, 0, 0);
}

bool exit_status(int pidfd, int *status)
{
    int64_t deadline = monotonic_ns() + PATIENCE_NS;
    for (;;) {
        struct exit_info info = {.mask = INFO_EXIT};
        if (ioctl(pidfd, GET_INFO, &info) == 0) {
            if (info.mask & INFO_EXIT) {
                *status = info.exit_code;
                return true;
            }
        } else if (errno != ESRCH) { /* ESRCH: it is being reaped in this moment */
            return false;
        }
        if (monotonic_ns() > deadline)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
}
