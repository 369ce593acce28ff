/* The guard: a fork of the shim that shares its listener, its buffers and its journal.
 *
 * While the shim lives it watches: a call that the shim holds too long goes on unseen, and what the shim leaves waiting
 * the guard sees in its place. When the shim is dead it sees all that comes, until the last filtered process is gone,
 * and writes the end of the record. Who stops the shim would stop the script: so it is told to go on.
 */
#include "shim.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/time.h>

#define SLOW_NS 60000000 /* in which a notification must be answered, or the guard does */
#define TICK_MS 30

struct watch {
    const struct eye *eye;
    uint64_t beats; /* of the shim, when it was last seen to move or had nothing to do */
    int64_t since;  /* when that was */
};

static void nothing(int number)
{
    (void)number;
}

/* Sees the next notification. The shim, come to itself, may take it first: then the receiving would wait for another,
 * and a timer ends it. */
static void see_one(const struct eye *eye, bool alone)
{
    const struct itimerval tick = {.it_interval.tv_usec = TICK_MS * 1000, .it_value.tv_usec = TICK_MS * 1000};
    struct seccomp_notif *notice = seat(SEAT_GUARD);
    if (!alone)
        setitimer(ITIMER_REAL, &tick, NULL);
    int error = listener_receive(eye->listener, notice);
    if (!alone)
        setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    if (error)
        return;
    count(NOTICES);
    count(GUARD);
    see(eye, notice);
    count(ANSWERED);
}

/* Sees what was received by one who died before it had answered, or at least had noted what went on meanwhile. */
static void see_left(const struct eye *eye, const struct seccomp_notif *notice)
{
    if (notice->id != 0 && (still_waits(eye->listener, notice->id) || hurried(notice->id)))
        see(eye, notice);
}

static bool shim_is_stuck(struct watch *watch)
{
    struct pollfd listener = {.fd = watch->eye->listener, .events = POLLIN};
    poll(&listener, 1, 0);
    bool idle = phase_now() == WAITING && listener.revents == 0;
    if (idle || beats() != watch->beats) {
        watch->beats = beats();
        watch->since = monotonic_ns();
    }
    return monotonic_ns() - watch->since > SLOW_NS;
}

static void stand_in(struct watch *watch, pid_t shim)
{
    char state = process_state(shim);
    if (state == 'T') {
        kill(shim, SIGCONT);
        watch->since = monotonic_ns(); /* time to come to itself */
        return;
    }
    if (state == 'R' && phase_now() == HOLDING)
        return; /* on its way, only the machine is busy: what it holds would be seen late for nothing */
    const struct seccomp_notif *notice = seat(SEAT_SHIM);
    const struct call *call = call_of(notice->data.arch, notice->data.nr);
    uint64_t held = notice->id;
    if (phase_now() == HOLDING && !hurried(held)) {
        hurry(held);
        if (call && call->kind == WORLD)
            part_ways();
        count(WATCHDOG);
        let_go_on(watch->eye->listener, held);
    }
    if (listener_readable(watch->eye->listener))
        see_one(watch->eye, false);
    if (phase_now() == RECEIVING)
        kill(shim, SIGCONT); /* it waits for what we took: this ends its receiving */
}

/* Until the shim is dead. */
static void watch_shim(const struct eye *eye, int shim_pidfd, pid_t shim)
{
    struct watch watch = {.eye = eye, .since = monotonic_ns()};
    bool stuck = false;
    for (;;) {
        struct pollfd fds[] = {
            {.fd = shim_pidfd, .events = POLLIN},
            {.fd = stuck && listener_readable(eye->listener) ? eye->listener : -1, .events = POLLIN},
        };
        poll(fds, 2, TICK_MS);
        if (fds[0].revents)
            return;
        stuck = shim_is_stuck(&watch);
        if (stuck)
            stand_in(&watch, shim);
    }
}

/* Until the last filtered process is gone. */
static void take_over(const struct eye *eye)
{
    journal_mend(eye->journal);
    if (phase_now() != WAITING)
        see_left(eye, seat(SEAT_SHIM));
    for (;;) {
        struct pollfd listener = {.fd = eye->listener, .events = POLLIN};
        if (poll(&listener, 1, -1) < 0)
            continue;
        if (listener.revents & POLLIN)
            see_one(eye, true);
        else if (listener.revents)
            return;
    }
}

_Noreturn void guard(const struct eye *eye, struct report *report, int shim_pidfd, int script_pidfd)
{
    int status;
    char why[PATH_MAX];
    sigset_t none;
    prctl(PR_SET_NAME, "gridkeep-guard");
    const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = nothing}, NULL); /* no SA_RESTART: it ends a receiving */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    resolve_prepare(); /* anew: part of it is a process's own */
    see_left(eye, seat(SEAT_GUARD)); /* a guard before us was killed */
    watch_shim(eye, shim_pidfd, report->shim);
    take_over(eye);
    if (exists(report->folder, "started.json")) { /* else the script has not run */
        if (hear_failure(report, why))
            report_exit(report, NULL, why);
        report_exit(report, exit_status(script_pidfd, &status) ? &status : NULL, NULL);
        report_end(report);
    }
    _exit(0);
}
