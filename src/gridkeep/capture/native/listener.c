/* The kernel's end: notifications and their answers, and reading another process's memory. */
#include "shim.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, uint64_t)
#endif
#define SYNC_WAKE_UP 1UL

void listener_prepare(int listener)
{
    /* Wake the waiting thread on this CPU: four times faster (Linux >= 6.6; elsewhere it fails and nothing is lost). */
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP);
}

/* An errno other than 0: there is none (any more). */
int listener_receive(int listener, struct seccomp_notif *notice)
{
    memset(notice, 0, sizeof *notice); /* the kernel refuses a buffer that is not empty */
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, notice) < 0 ? errno : 0;
}

bool listener_readable(int listener)
{
    struct pollfd fd = {.fd = listener, .events = POLLIN};
    return poll(&fd, 1, 0) == 1 && fd.revents & POLLIN;
}

bool still_waits(int listener, uint64_t id)
{
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

/* The answers fail when somebody else has answered, or the thread is gone: as well. */

void let_go_on(int listener, uint64_t id)
{
    struct seccomp_notif_resp answer = {.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

void refuse(int listener, uint64_t id, int error)
{
    struct seccomp_notif_resp answer = {.id = id, .error = -error};
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

/* Answers an open with a copy of our descriptor (Linux >= 5.14). */
bool give(int listener, uint64_t id, int fd, bool close_on_exec)
{
    struct seccomp_notif_addfd answer = {
        .id = id,
        .flags = SECCOMP_ADDFD_FLAG_SEND,
        .srcfd = (uint32_t)fd,
        .newfd_flags = close_on_exec ? O_CLOEXEC : 0,
    };
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &answer) >= 0;
}

int read_memory(pid_t tid, uint64_t address, void *into, size_t size)
{
    struct iovec local = {into, size}, remote = {(void *)(uintptr_t)address, size};
    ssize_t length = process_vm_readv(tid, &local, 1, &remote, 1, 0);
    if (length < 0)
        return errno;
    return length == (ssize_t)size ? 0 : EFAULT;
}

int read_text(pid_t tid, uint64_t address, char text[PATH_MAX])
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), have = 0;
    while (have < PATH_MAX) {
        size_t more = page - (address + have) % page; /* the next page may not be there, and is mostly not needed */
        if (more > PATH_MAX - have)
            more = PATH_MAX - have;
        int error = read_memory(tid, address + have, text + have, more);
        if (error)
            return error;
        if (memchr(text + have, 0, more))
            return 0;
        have += more;
    }
    return EFAULT;
}
