/* The life of one execution: start the script under the filter, see what it writes until no process of its tree is
 * left, end what lingers, and write down how it all went.
 *
 *     gridkeep-shim FOLDER            a session's folder, see ../session.py
 *     gridkeep-shim --filter MACHINE  prints the filter's program, for tests
 */
#include "shim.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SECOND 1000000000.0
#define KILL_AGAIN 0.2 /* seconds between rounds of SIGKILL, for what was forked meanwhile */

struct shim {
    struct launch launch;
    struct report report;
    struct eye eye; /* listener -1: capture is off */
    int signals;    /* a descriptor: SIGCHLD and SIGTERM */
    int channel;    /* to the child that waits to become the script; -1 afterwards */
    int own_pidfd, script_pidfd, guard_pidfd;
    pid_t guard;
    bool ended;       /* the script; descendants may live on */
    bool alone;       /* no process of its tree is left */
    int64_t deadline; /* when the next signal is due; 0: none is */
    int next_signal;
};

/* -------------------------------------------------------------------------------------------------------- beginning */

static int open_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_SETMASK, &signals, NULL);
    return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void nothing(int number)
{
    (void)number;
}

static void arrange_signals(struct shim *shim)
{
    shim->signals = open_signals();
    signal(SIGCHLD, SIG_DFL); /* ignored, as it may come to us, there would be nothing to wait for */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* the user's limit of file sizes holds for the journal too: a lost record, no more */
    sigaction(SIGCONT, &(struct sigaction){.sa_handler = nothing}, NULL); /* no SA_RESTART: the guard wakes us by it */
}

static void start_guard(struct shim *shim)
{
    if (shim->eye.listener < 0)
        return;
    shim->guard = fork_aside(&shim->guard_pidfd);
    if (shim->guard == 0 && shim->channel >= 0)
        close(shim->channel); /* it must hear of the shim's death */
    if (shim->guard == 0)
        guard(&shim->eye, &shim->report, shim->own_pidfd, shim->script_pidfd);
    if (shim->guard < 0) {
        perror("guard");
        shim->guard_pidfd = -1;
    }
}

static int pidfd_of(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

static void open_eye(struct shim *shim)
{
    struct stat output;
    char why[sizeof shim->report.why];
    shim->report.mode = shim->launch.capture; /* off or watch */
    strcpy(shim->report.why, "asked for");
    shim->eye.listener = receive_listener(shim->channel, why, sizeof why);
    if (shim->eye.listener < 0) {
        if (*why) {
            shim->report.mode = "watch";
            strcpy(shim->report.why, why);
        }
        return;
    }
    listener_prepare(shim->eye.listener);
    shim->eye.output = shim->launch.output;
    if (stat(shim->launch.output, &output) == 0)
        shim->eye.output_stamp = (struct stamp){.dev = output.st_dev, .ino = output.st_ino};
    shim->report.mode = "c";
    strcpy(shim->report.why, "seccomp user notification");
}

static void note_ending(struct shim *shim, const int *status, const char *error)
{
    report_exit(&shim->report, status, error);
    shim->ended = true;
    if (!shim->deadline)
        shim->deadline = monotonic_ns() + (int64_t)(shim->launch.linger * SECOND);
}

static int start_script(struct shim *shim)
{
    int channel[2], errors[2];
    char why[PATH_MAX];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) < 0 || pipe2(errors, O_CLOEXEC) < 0)
        return errno;
    shim->report.script = fork();
    if (shim->report.script < 0)
        return errno;
    if (shim->report.script == 0) {
        close(channel[0]);
        become_script(&shim->launch, channel[1], errors[1]);
    }
    close(channel[1]);
    close(errors[1]);
    shim->report.failure = errors[0];
    shim->channel = channel[0];
    shim->script_pidfd = pidfd_of(shim->report.script);
    open_eye(shim);
    start_guard(shim);
    int error = report_started(&shim->report);
    if (error)
        return error;
    send(shim->channel, "g", 1, MSG_NOSIGNAL); /* only now: what has no started.json has not run */
    close(shim->channel);
    shim->channel = -1;
    if (hear_failure(&shim->report, why))
        note_ending(shim, NULL, why);
    return 0;
}

/* ---------------------------------------------------------------------------------------------------- while it runs */

static void see_next(struct shim *shim)
{
    struct seccomp_notif *notice = seat(SEAT_SHIM);
    set_phase(RECEIVING);
    if (listener_receive(shim->eye.listener, notice) == 0) {
        set_phase(HOLDING);
        count(NOTICES);
        see(&shim->eye, notice);
        count(ANSWERED);
    }
    set_phase(WAITING);
}

static void reap(struct shim *shim)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == shim->report.script && !shim->ended)
            note_ending(shim, &status, NULL);
    if (pid < 0)
        shim->alone = true; /* we are the reaper of the whole tree: no child, no tree */
}

static void take_signals(struct shim *shim)
{
    struct signalfd_siginfo info;
    while (read(shim->signals, &info, sizeof info) == sizeof info)
        if (info.ssi_signo == SIGTERM && shim->next_signal == SIGTERM)
            shim->deadline = monotonic_ns();
    reap(shim);
}

static void note_terminated(struct report *report, pid_t pid)
{
    char name[16];
    program_name(pid, name);
    for (size_t i = 0; i < report->terminated_count; i++)
        if (strcmp(report->terminated[i], name) == 0)
            return;
    void *more = realloc(report->terminated, (report->terminated_count + 1) * sizeof *report->terminated);
    if (more) {
        report->terminated = more;
        strcpy(report->terminated[report->terminated_count++], name);
    }
}

static void end_descendants(struct shim *shim)
{
    pid_t *pids;
    size_t count = descendants(shim->report.shim, &pids);
    for (size_t i = 0; i < count; i++) {
        if (pids[i] == shim->guard)
            continue;
        if (shim->ended && !strchr("ZX", process_state(pids[i])))
            note_terminated(&shim->report, pids[i]);
        kill(pids[i], shim->next_signal);
    }
    free(pids);
    double pause = shim->next_signal == SIGTERM ? shim->launch.kill_grace : KILL_AGAIN;
    shim->deadline = monotonic_ns() + (int64_t)(pause * SECOND);
    shim->next_signal = SIGKILL;
}

static int milliseconds_left(const struct shim *shim)
{
    if (!shim->deadline)
        return -1;
    int64_t left = (shim->deadline - monotonic_ns() + 999999) / 1000000;
    return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

/* Until no process of the tree is left. */
static void live(struct shim *shim)
{
    enum { SIGNALS, LISTENER, GUARD_END };
    struct pollfd fds[] = {
        [SIGNALS] = {.fd = shim->signals, .events = POLLIN},
        [LISTENER] = {.fd = shim->eye.listener, .events = POLLIN},
        [GUARD_END] = {.fd = shim->guard_pidfd, .events = POLLIN},
    };
    reap(shim);
    while (!(shim->ended && shim->alone)) {
        if (poll(fds, 3, milliseconds_left(shim)) < 0)
            continue;
        if (fds[LISTENER].revents & POLLIN) {
            see_next(shim);
        } else if (fds[LISTENER].revents) {
            fds[LISTENER].fd = -1;
            shim->alone = true; /* the last process under the filter is gone */
        }
        if (fds[SIGNALS].revents)
            take_signals(shim);
        if (fds[GUARD_END].revents) {
            waitpid(shim->guard, NULL, __WALL);
            close(shim->guard_pidfd);
            start_guard(shim);
            fds[GUARD_END].fd = shim->guard_pidfd;
        }
        if (shim->deadline && monotonic_ns() >= shim->deadline)
            end_descendants(shim);
    }
}

static void finish(struct shim *shim)
{
    report_end(&shim->report);
    if (shim->guard > 0) {
        kill(shim->guard, SIGKILL);
        waitpid(shim->guard, NULL, __WALL);
    }
}

static int run(int folder)
{
    struct shim shim = {
        .report = {.folder = folder, .shim = getpid(), .failure = -1},
        .eye = {.listener = -1},
        .guard_pidfd = -1,
        .next_signal = SIGTERM,
    };
    int error = launch_read(folder, &shim.launch);
    if (!error)
        error = shared_map(folder);
    if (!error)
        error = resolve_prepare();
    if (error)
        return error;
    shim.eye.journal = openat(folder, "journal", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    shim.own_pidfd = pidfd_of(getpid());
    if (shim.eye.journal < 0 || shim.own_pidfd < 0)
        return errno;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    arrange_signals(&shim);
    error = start_script(&shim);
    if (error)
        return error;
    live(&shim);
    finish(&shim);
    return 0;
}

static int print_filter(const char *machine)
{
    struct sock_filter steps[FILTER_MAX];
    size_t count = (size_t)filter_build(machine, steps);
    return fwrite(steps, sizeof *steps, count, stdout) == count && count ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--filter") == 0)
        return print_filter(argv[2]);
    int folder = argc == 2 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (folder < 0) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    /* Leaves at once when another has the lock or the script has been started before. */
    if (take_lock(folder, "lock") < 0 || exists(folder, "started.json"))
        return 0;
    int error = run(folder);
    if (error)
        fprintf(stderr, "the shim could not begin: %s\n", strerror(error));
    return error ? 1 : 0;
}
