/* The shim in C: the script's parent, the reaper of its descendants, and the eye that sees their writes.
 *
 * It does what ../shim.py does, with the same files in the session's folder (see ../session.py), the same bytes in the
 * journal (see ../journal.py) and the same counters. It knows no store and no catalog.
 *
 *     main.c       the life of one execution
 *     launch.c     what to execute, and the child that becomes the script
 *     filter.c     which system calls trap
 *     listener.c   the kernel's end: notifications, answers, another process's memory
 *     observe.c    a notification to a record and an answer
 *     resolve.c    what a thread passed to a call, to a canonical path and what is there (walk.c, sight.c)
 *     journal.c    records
 *     shared.c     counters and receive buffers, shared by shim, guard and supervisor
 *     guard.c      the fork that answers when the shim is slow or dead
 *     report.c     started.json, exit.json, end.json
 *     processes.c  descendants, their names, their ends
 *     files.c      a lock, and files written whole
 *
 * Nothing on the way of a notification allocates, waits for another process or recurses. Where a function can fail it
 * returns 0 or an errno, unless it says otherwise.
 */
#ifndef GRIDKEEP_SHIM_H
#define GRIDKEEP_SHIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define LONG_PATH 65536 /* the longest path that a record names; PATH_MAX bounds only what one call is passed */

/* ------------------------------------------------------------------------------------------------ journal.c */

enum op { OP_OPEN = 1, OP_TRUNCATE, OP_UNLINK, OP_RENAME, OP_LINK, OP_SYMLINK, OP_MKNOD, OP_LOST };

enum mark { MARK_EXCHANGE = 1, MARK_LATE = 2 };

/* What tells whether a file was changed. `ino` 0: there was nothing. */
struct stamp {
    uint64_t dev, ino;
    int64_t size, mtime_ns, ctime_ns;
    uint32_t mode;
};

/* A path, and what was there when the call came. */
struct target {
    struct stamp stamp;
    size_t length;
    char path[LONG_PATH];
};

struct record {
    enum op op;
    int marks;
    pid_t tid;
    uint32_t flags;
    int64_t time_ns;
    int count; /* of targets: one, or two (old, new) for OP_RENAME and OP_LINK */
    const struct target *targets[2];
};

int64_t nanoseconds(int64_t seconds, uint32_t rest);
bool same_file(const struct stamp *one, const struct stamp *other);

/* False when the record could not be written (no space): it is dropped, the script is never held up. */
bool journal_append(int journal, const struct record *record);

/* Cuts off a record that its writer was killed in the middle of, so that the next is not taken for its rest. */
void journal_mend(int journal);

/* ------------------------------------------------------------------------------------------------- shared.c */

enum counter { /* the order of session.COUNTERS */
    NOTICES,
    ANSWERED,
    RECORDS,
    LOST,
    LATE,
    UNREADABLE,
    IO_URING,
    WATCHDOG,
    GUARD,
    COUNTERS
};

extern const char *const counter_names[COUNTERS];

/* What the shim is at, for the guard to see. */
enum phase { WAITING, RECEIVING, HOLDING };

/* Who has a receive buffer: in memory that outlives its owner, so that the id in flight is known after its death. */
enum seat { SEAT_SHIM, SEAT_GUARD };

int shared_map(int folder);
void count(enum counter counter);
uint64_t counted(enum counter counter);
void set_phase(enum phase phase);
enum phase phase_now(void);
uint64_t beats(void); /* how often the shim's phase has changed */
struct seccomp_notif *seat(enum seat seat);

/* The guard lets a call go on that the shim holds too long; whether it has let this one go. */
void hurry(uint64_t id);
bool hurried(uint64_t id);

/* Whether a process of the tree may by now have another root or other mounts than we. */
void part_ways(void);
bool parted(void);

/* ------------------------------------------------------------------------------------------------- filter.c */

enum kind { OPEN, OPENAT2, CREAT, RENAME, LINK, UNLINK, SYMLINK, TRUNCATE, MKNOD, BY_HANDLE, URING, WORLD };

/* Where a call's arguments stand. -1: it has none (a path is then relative to the current folder). */
struct call {
    int number;
    enum kind kind;
    int8_t dirfd, path, dirfd2, path2;
    int8_t flags; /* of an open: trap only if it can write; of the others: their own */
    int8_t mode;  /* of mknod: trap only regular files */
};

/* O_RDONLY with O_TRUNC empties a file and with O_CREAT makes one: all five bits count. The last is __O_TMPFILE alone,
 * without O_DIRECTORY, which a plain listing of a folder sets too. */
#define CAN_WRITE ((uint32_t)(O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | 020000000))

const struct call *call_of(uint32_t arch, int number);

/* Makes the filter of a machine ("x86_64", "aarch64"; NULL: this one); the number of its steps, 0: unknown. */
#define FILTER_MAX 256
int filter_build(const char *machine, struct sock_filter *steps);

/* Puts this process and all its descendants under the filter; the listener's descriptor, or -1 and errno. */
int filter_install(void);

/* ----------------------------------------------------------------------------------------------- listener.c */

void listener_prepare(int listener);
int listener_receive(int listener, struct seccomp_notif *notice);
bool listener_readable(int listener);
bool still_waits(int listener, uint64_t id); /* only then was what we read of its thread its own */
void let_go_on(int listener, uint64_t id);
void refuse(int listener, uint64_t id, int error);
bool give(int listener, uint64_t id, int fd, bool close_on_exec);

/* Text, ended by NUL, at most PATH_MAX bytes with it. EFAULT: the call itself will fail. */
int read_text(pid_t tid, uint64_t address, char text[PATH_MAX]);
int read_memory(pid_t tid, uint64_t address, void *into, size_t size);

/* ------------------------------------------------------------------------------------------------ resolve.c */

#define NO_TARGET (-1) /* nothing to record: the call will fail, or it leads to no place for files */

enum { FOLLOW = 1, IN_ROOT = 2 }; /* a link in the last place is followed; `dirfd` is the root (openat2) */

int resolve_prepare(void); /* once in each process that resolves */

/* 0, NO_TARGET, or the errno of why we may not look, or have no name for what we see: EOVERFLOW (a path over
 * LONG_PATH), EXDEV (a mount namespace of the process's own). */
int resolve(pid_t tid, int dirfd, const char *text, int how, struct target *target);

/* ------------------------------------------------------------------------------------------------ observe.c */

struct eye {
    int listener;
    int journal;
    const char *output;        /* the output log's path */
    struct stamp output_stamp; /* who opens it by name, as `> /dev/stderr` does, must not cut it off */
};

/* Records a notification that was received, and answers it. */
void see(const struct eye *eye, const struct seccomp_notif *notice);

/* ------------------------------------------------------------------------------------------------- launch.c */

/* What to execute; see session.Launch. */
struct launch {
    char **argv, **env;
    const char *cwd, *output, *capture;
    double linger, kill_grace;
    mode_t umask;
};

int launch_read(int folder, struct launch *launch);

/* In the forked child: the script's surroundings, the filter, exec. The listener, or the reason why there is none,
 * goes through `channel`; what keeps the script from starting is written to `error`. */
_Noreturn void become_script(const struct launch *launch, int channel, int error);

/* The other end of it: the listener, or -1 with the reason ("" when none was wanted). */
int receive_listener(int channel, char *why, size_t size);

/* ------------------------------------------------------------------------------------------------- report.c */

struct report {
    int folder;
    pid_t shim, script;
    int failure; /* what the script says if it cannot begin; -1: it was heard */
    const char *mode;
    char why[256];
    char (*terminated)[16]; /* programs that were ended after lingering */
    size_t terminated_count;
};

int report_started(const struct report *report);

/* Waits until the script has begun, or said why it cannot: then true. */
bool hear_failure(struct report *report, char why[PATH_MAX]);
void report_exit(const struct report *report, const int *status, const char *error); /* both may be NULL: unknown */
void report_end(const struct report *report);

/* -------------------------------------------------------------------------------------------------- guard.c */

_Noreturn void guard(const struct eye *eye, struct report *report, int shim_pidfd, int script_pidfd);

/* ---------------------------------------------------------------------------------------------- processes.c */

/* All processes below `ancestor`, from one look at /proc; `pids` is the caller's to free. */
size_t descendants(pid_t ancestor, pid_t **pids);
char process_state(pid_t pid); /* as in /proc: R, S, T, Z, …; X when it is gone */
void program_name(pid_t tid, char name[16]); /* "?" when it is gone */
pid_t thread_group(pid_t tid);

/* A fork that does not count as a child for a plain wait, with its pidfd. */
pid_t fork_aside(int *pidfd);

/* The wait status of an ended process that may never have been our child; false where the kernel does not tell. */
bool exit_status(int pidfd, int *status);

/* ---------------------------------------------------------------------------------------------------- files.c */

int take_lock(int folder, const char *name);
bool exists(int folder, const char *name);

/* The whole new file or what was there, whoever is killed; durable. */
int write_whole(int folder, const char *name, const void *data, size_t size);

int64_t monotonic_ns(void);

#endif
