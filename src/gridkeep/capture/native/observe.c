/* One notification to a record and an answer: read what the call names, resolve it, note what was there.
 *
 * It only observes: whatever goes wrong here, the call goes on. It is no security boundary.
 */
#include "shim.h"

#include <linux/openat2.h>
#include <stdarg.h>
#include <time.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

enum verdict {
    NOTHING, /* it changes no file that we could name, or will fail */
    GONE,    /* its thread is gone, or somebody else has answered: nothing that we read is sure */
    RECORD,
    REFUSE, /* io_uring: programs then fall back to calls that can be seen */
    OUTPUT, /* an open of the run's own output log */
};

static const char *const KINDS[] = {"open",    "openat2",  "creat", "rename",    "link",    "unlink",
                                    "symlink", "truncate", "mknod", "by_handle", "io_uring", "world"};

static const enum op OPS[] = {OP_OPEN,   OP_OPEN,    OP_OPEN,     OP_RENAME, OP_LINK,
                              OP_UNLINK, OP_SYMLINK, OP_TRUNCATE, OP_MKNOD};

static bool is_open(enum kind kind)
{
    return kind == OPEN || kind == OPENAT2 || kind == CREAT;
}

/* The descriptor that a path is relative to: a C int, though the register has 64 bits. */
static int folder_of(const struct seccomp_notif *notice, int argument)
{
    return argument < 0 ? AT_FDCWD : (int)notice->data.args[argument];
}

/* The call's flags, and how its path is resolved. */
static int flags_of(const struct call *call, const struct seccomp_notif *notice, uint32_t *flags, int *how)
{
    *flags = call->flags >= 0 ? (uint32_t)notice->data.args[call->flags] : 0;
    *how = call->kind == TRUNCATE || (call->kind == LINK && *flags & AT_SYMLINK_FOLLOW) ? FOLLOW : 0;
    if (call->kind == CREAT)
        *flags = O_CREAT | O_WRONLY | O_TRUNC;
    if (call->kind == OPENAT2) {
        struct open_how open;
        int error = read_memory((pid_t)notice->pid, notice->data.args[2], &open, sizeof open);
        if (error)
            return error;
        *flags = (uint32_t)open.flags;
        *how = open.resolve & RESOLVE_IN_ROOT ? IN_ROOT : 0;
    }
    bool exclusive = (*flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
    if (is_open(call->kind) && !(*flags & O_NOFOLLOW) && !exclusive)
        *how |= FOLLOW;
    return 0;
}

static void begin(struct record *record, enum op op, pid_t tid, uint32_t flags)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    record->op = op;
    record->marks = 0;
    record->tid = tid;
    record->flags = flags;
    record->time_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static const char *reason_of(int error)
{
    if (error == EXDEV)
        return "in a mount namespace of its own";
    return error == EOVERFLOW ? "its path is too long" : strerror(error);
}

/* A record of a call whose path could not be learnt: what is known of it, for people. */
static enum verdict lost(struct record *record, struct target *target, pid_t tid, const char *format, ...)
{
    va_list what;
    va_start(what, format);
    target->stamp = (struct stamp){0};
    target->length = (size_t)vsnprintf(target->path, LONG_PATH, format, what);
    va_end(what);
    begin(record, OP_LOST, tid, 0);
    record->count = 1;
    return RECORD;
}

static enum verdict lost_path(struct record *record, struct target *target, const struct call *call, pid_t tid,
                              const char *text, const char *reason)
{
    char program[16];
    program_name(tid, program);
    return lost(record, target, tid, "%s of %s: %s (%s)", KINDS[call->kind], program, *text ? text : "unknown path",
                reason);
}

/* The targets of a call, old and new or just the one, into the record. 0, NO_TARGET or an errno, as `resolve`. */
static int targets_of(const struct call *call, const struct seccomp_notif *notice, uint32_t flags, int how,
                      char texts[2][PATH_MAX], struct target targets[2])
{
    pid_t tid = (pid_t)notice->pid;
    int folder = folder_of(notice, call->dirfd);
    if (call->kind == LINK && flags & AT_EMPTY_PATH && texts[0][0] == 0) {
        snprintf(texts[0], PATH_MAX, "/proc/self/fd/%d", folder);
        how |= FOLLOW;
    }
    int error = resolve(tid, folder, texts[0], how, &targets[0]);
    if (error == NO_TARGET && call->kind == LINK) { /* a nameless file (O_TMPFILE) gets its first name */
        targets[0].stamp = (struct stamp){0};
        targets[0].length = 0;
        error = 0;
    }
    if (!error && call->path2 >= 0)
        error = resolve(tid, folder_of(notice, call->dirfd2), texts[1], 0, &targets[1]);
    return error;
}

/* Whether a call that reached this target can have changed a file. */
static enum verdict judge(const struct eye *eye, const struct call *call, const struct target *target)
{
    mode_t mode = target->stamp.ino ? target->stamp.mode : S_IFREG;
    if (is_open(call->kind) && target->stamp.ino && same_file(&target->stamp, &eye->output_stamp))
        return OUTPUT;
    if (is_open(call->kind) || call->kind == TRUNCATE)
        return S_ISREG(mode) ? RECORD : NOTHING;
    return call->kind == UNLINK && S_ISDIR(mode) ? NOTHING : RECORD;
}

/* Whether what we read of the call's thread is worth something: it waits, or the guard has just let it go on. */
static bool sure(const struct eye *eye, const struct seccomp_notif *notice)
{
    return still_waits(eye->listener, notice->id) || hurried(notice->id);
}

static enum verdict look(const struct eye *eye, const struct seccomp_notif *notice, struct record *record,
                         struct target targets[2])
{
    static char texts[2][PATH_MAX];
    const struct call *call = call_of(notice->data.arch, notice->data.nr);
    pid_t tid = (pid_t)notice->pid;
    uint32_t flags;
    int how, error;
    texts[0][0] = 0;
    if (call == NULL)
        return NOTHING;
    if (call->kind == URING)
        return REFUSE;
    if (call->kind == WORLD) {
        part_ways();
        return NOTHING;
    }
    if (call->kind == BY_HANDLE)
        return sure(eye, notice) ? lost_path(record, targets, call, tid, "", "opened by handle") : GONE;

    error = flags_of(call, notice, &flags, &how);
    if (!error && is_open(call->kind) && (flags & O_PATH || !(flags & CAN_WRITE)))
        return NOTHING;
    if (!error && is_open(call->kind) && (flags & O_TMPFILE) == O_TMPFILE)
        return NOTHING; /* nameless until it is linked */
    if (!error && call->kind == UNLINK && flags & AT_REMOVEDIR)
        return NOTHING;
    if (!error)
        error = read_text(tid, notice->data.args[call->path], texts[0]);
    if (!error && call->path2 >= 0)
        error = read_text(tid, notice->data.args[call->path2], texts[1]);
    if (error == ESRCH || !still_waits(eye->listener, notice->id))
        return GONE; /* once it went on, its memory may say anything */
    if (error == EFAULT)
        return NOTHING;
    if (!error)
        error = targets_of(call, notice, flags, how, texts, targets);
    if (error == NO_TARGET)
        return NOTHING;
    if (error == ENOENT || error == ESRCH || (error && !sure(eye, notice)))
        return GONE;
    if (error)
        return lost_path(record, targets, call, tid, texts[0], reason_of(error));

    begin(record, OPS[call->kind], tid, flags);
    record->marks = call->kind == RENAME && flags & RENAME_EXCHANGE ? MARK_EXCHANGE : 0;
    record->count = call->path2 >= 0 ? 2 : 1;
    return judge(eye, call, &targets[0]);
}

static void write_down(const struct eye *eye, const struct record *record)
{
    if (record->op == OP_LOST) {
        count(LOST);
        count(UNREADABLE);
    }
    count(journal_append(eye->journal, record) ? RECORDS : LOST);
}

/* Hands out an appending descriptor of the output log, so that nothing that was printed is cut off. */
static bool give_output(const struct eye *eye, uint64_t id, uint32_t flags)
{
    int fd = open(eye->output, (int)(flags & O_ACCMODE) | O_APPEND | O_CLOEXEC);
    bool given = fd >= 0 && give(eye->listener, id, fd, flags & O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return given;
}

void see(const struct eye *eye, const struct seccomp_notif *notice)
{
    static struct target targets[2];
    struct record record = {.targets = {&targets[0], &targets[1]}};
    uint64_t id = notice->id;
    enum verdict verdict = look(eye, notice, &record, targets);

    if (verdict == GONE && hurried(id)) /* the guard was first, and nobody can look any more */
        verdict = lost(&record, targets, (pid_t)notice->pid,
                       "a call of process %d (it went on before it was looked at)", (int)notice->pid);
    if (verdict == RECORD)
        write_down(eye, &record);
    if (verdict == REFUSE) {
        count(IO_URING);
        refuse(eye->listener, id, ENOSYS);
    } else if (verdict != OUTPUT || !give_output(eye, id, record.flags)) {
        let_go_on(eye->listener, id);
    }
    if (verdict == RECORD && record.op != OP_LOST && hurried(id)) {
        count(LATE);
        record.marks |= MARK_LATE;
        journal_append(eye->journal, &record);
    }
}
