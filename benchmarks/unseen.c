/* Runs a program as capture does, but for the looking: each open that can write is trapped, and let go on at once. What is
 * left is what any notification takes: two changes of process.
 *
 *     unseen PROGRAM ARGUMENT…
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SET_FLAGS SECCOMP_IOW(4, uint64_t)
#define SYNC_WAKE_UP 1UL

static int install(void)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof steps / sizeof *steps, .filter = steps};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                        SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program);
}

/* The listener goes to the parent by its number: the parent takes it out of this process. */
static void become(char **argv, int channel)
{
    int listener = install();
    char go;
    if (write(channel, &listener, sizeof listener) == sizeof listener && read(channel, &go, 1) == 1) {
        close(listener);
        execvp(argv[0], argv);
    }
    _exit(127);
}

static void answer_all(int listener)
{
    for (struct pollfd fd = {.fd = listener, .events = POLLIN}; poll(&fd, 1, -1) == 1 && fd.revents & POLLIN;) {
        struct seccomp_notif notice = {0};
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notice) == 0) {
            struct seccomp_notif_resp answer = {.id = notice.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
            ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
        }
    }
}

int main(int argc, char **argv)
{
    int channel[2], number, status = 1;
    if (argc < 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) < 0)
        return 2;
    pid_t child = fork();
    if (child == 0)
        become(argv + 1, channel[1]);
    if (read(channel[0], &number, sizeof number) != sizeof number || number < 0)
        return 1;
    int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    int listener = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
    if (listener < 0)
        return 1;
    ioctl(listener, SET_FLAGS, SYNC_WAKE_UP);
    if (write(channel[0], "g", 1) == 1)
        answer_all(listener);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
