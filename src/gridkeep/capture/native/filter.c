/* Which system calls can create, change or remove a file, on which architecture, and the filter that traps just those.
 *
 * Reads never trap; calls that need an open descriptor (write, ftruncate, mmap, …) do not either, because the open did.
 * Calls after which a path may lead elsewhere for who makes them (another root, other mounts) trap to be noted.
 * The tables, and the filter made from them, are those of ../calls.py to the byte (a test compares them).
 */
#include "shim.h"

#include <linux/audit.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define X32_BIT 0x40000000

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

/* number, kind, dirfd, path, dirfd2, path2, flags, mode */
static const struct call X86_64[] = {
    {2, OPEN, -1, 0, -1, -1, 1, -1},       {257, OPEN, 0, 1, -1, -1, 2, -1},
    {85, CREAT, -1, 0, -1, -1, -1, -1},    {437, OPENAT2, 0, 1, -1, -1, -1, -1},
    {82, RENAME, -1, 0, -1, 1, -1, -1},    {264, RENAME, 0, 1, 2, 3, -1, -1},
    {316, RENAME, 0, 1, 2, 3, 4, -1},      {86, LINK, -1, 0, -1, 1, -1, -1},
    {265, LINK, 0, 1, 2, 3, 4, -1},        {87, UNLINK, -1, 0, -1, -1, -1, -1},
    {263, UNLINK, 0, 1, -1, -1, 2, -1},    {88, SYMLINK, -1, 1, -1, -1, -1, -1},
    {266, SYMLINK, 1, 2, -1, -1, -1, -1},  {76, TRUNCATE, -1, 0, -1, -1, -1, -1},
    {133, MKNOD, -1, 0, -1, -1, -1, 1},    {259, MKNOD, 0, 1, -1, -1, -1, 2},
    {304, BY_HANDLE, -1, -1, -1, -1, 2, -1}, {425, URING, -1, -1, -1, -1, -1, -1},
    {161, WORLD, -1, -1, -1, -1, -1, -1},  {155, WORLD, -1, -1, -1, -1, -1, -1},
    {272, WORLD, -1, -1, -1, -1, -1, -1},  {308, WORLD, -1, -1, -1, -1, -1, -1},
    {165, WORLD, -1, -1, -1, -1, -1, -1},  {166, WORLD, -1, -1, -1, -1, -1, -1},
    {429, WORLD, -1, -1, -1, -1, -1, -1},  {428, WORLD, -1, -1, -1, -1, -1, -1},
    {432, WORLD, -1, -1, -1, -1, -1, -1},
};

static const struct call I386[] = {
    {5, OPEN, -1, 0, -1, -1, 1, -1},       {295, OPEN, 0, 1, -1, -1, 2, -1},
    {8, CREAT, -1, 0, -1, -1, -1, -1},     {437, OPENAT2, 0, 1, -1, -1, -1, -1},
    {38, RENAME, -1, 0, -1, 1, -1, -1},    {302, RENAME, 0, 1, 2, 3, -1, -1},
    {353, RENAME, 0, 1, 2, 3, 4, -1},      {9, LINK, -1, 0, -1, 1, -1, -1},
    {303, LINK, 0, 1, 2, 3, 4, -1},        {10, UNLINK, -1, 0, -1, -1, -1, -1},
    {301, UNLINK, 0, 1, -1, -1, 2, -1},    {83, SYMLINK, -1, 1, -1, -1, -1, -1},
    {304, SYMLINK, 1, 2, -1, -1, -1, -1},  {92, TRUNCATE, -1, 0, -1, -1, -1, -1},
    {193, TRUNCATE, -1, 0, -1, -1, -1, -1}, {14, MKNOD, -1, 0, -1, -1, -1, 1},
    {297, MKNOD, 0, 1, -1, -1, -1, 2},     {342, BY_HANDLE, -1, -1, -1, -1, 2, -1},
    {425, URING, -1, -1, -1, -1, -1, -1},  {61, WORLD, -1, -1, -1, -1, -1, -1},
    {217, WORLD, -1, -1, -1, -1, -1, -1},  {310, WORLD, -1, -1, -1, -1, -1, -1},
    {346, WORLD, -1, -1, -1, -1, -1, -1},  {21, WORLD, -1, -1, -1, -1, -1, -1},
    {22, WORLD, -1, -1, -1, -1, -1, -1},   {52, WORLD, -1, -1, -1, -1, -1, -1},
    {429, WORLD, -1, -1, -1, -1, -1, -1},  {428, WORLD, -1, -1, -1, -1, -1, -1},
    {432, WORLD, -1, -1, -1, -1, -1, -1},
};

static const struct call AARCH64[] = {
    {56, OPEN, 0, 1, -1, -1, 2, -1},       {437, OPENAT2, 0, 1, -1, -1, -1, -1},
    {38, RENAME, 0, 1, 2, 3, -1, -1},      {276, RENAME, 0, 1, 2, 3, 4, -1},
    {37, LINK, 0, 1, 2, 3, 4, -1},         {35, UNLINK, 0, 1, -1, -1, 2, -1},
    {36, SYMLINK, 1, 2, -1, -1, -1, -1},   {45, TRUNCATE, -1, 0, -1, -1, -1, -1},
    {33, MKNOD, 0, 1, -1, -1, -1, 2},      {265, BY_HANDLE, -1, -1, -1, -1, 2, -1},
    {425, URING, -1, -1, -1, -1, -1, -1},  {51, WORLD, -1, -1, -1, -1, -1, -1},
    {41, WORLD, -1, -1, -1, -1, -1, -1},   {97, WORLD, -1, -1, -1, -1, -1, -1},
    {268, WORLD, -1, -1, -1, -1, -1, -1},  {40, WORLD, -1, -1, -1, -1, -1, -1},
    {39, WORLD, -1, -1, -1, -1, -1, -1},   {429, WORLD, -1, -1, -1, -1, -1, -1},
    {428, WORLD, -1, -1, -1, -1, -1, -1},  {432, WORLD, -1, -1, -1, -1, -1, -1},
};

static const struct table {
    const char *machine;
    uint32_t arch;
    const struct call *calls;
    int length;
} TABLES[] = {
    {"x86_64", AUDIT_ARCH_X86_64, X86_64, LENGTH(X86_64)},
    {"x86_64", AUDIT_ARCH_I386, I386, LENGTH(I386)},
    {"aarch64", AUDIT_ARCH_AARCH64, AARCH64, LENGTH(AARCH64)},
};

/* The call of a notification, or NULL; x32's calls share x86_64's table. */
const struct call *call_of(uint32_t arch, int number)
{
    for (int t = 0; t < LENGTH(TABLES); t++)
        for (int c = 0; TABLES[t].arch == arch && c < TABLES[t].length; c++)
            if (TABLES[t].calls[c].number == (number & ~X32_BIT))
                return &TABLES[t].calls[c];
    return NULL;
}

/* ------------------------------------------------------------------------------------------------ the program */

#define STEP(code, k) (struct sock_filter) BPF_STMT(code, (uint32_t)(k))
#define BRANCH(code, k, yes, no) (struct sock_filter) BPF_JUMP(BPF_JMP | (code) | BPF_K, (uint32_t)(k), yes, no)
#define LOAD(offset) STEP(BPF_LD | BPF_W | BPF_ABS, offset)
#define ARGUMENT(i) (offsetof(struct seccomp_data, args) + 8 * (size_t)(i)) /* its low half */
#define TRAP STEP(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)
#define ALLOW STEP(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define AND(mask) STEP(BPF_ALU | BPF_AND | BPF_K, mask)

static struct sock_filter *trap_steps(const struct call *call, struct sock_filter *at)
{
    if (call->kind == OPEN || call->kind == BY_HANDLE) {
        *at++ = LOAD(ARGUMENT(call->flags));
        *at++ = BRANCH(BPF_JSET, CAN_WRITE, 0, 1);
        *at++ = TRAP;
        *at++ = ALLOW;
    } else if (call->kind == MKNOD) {
        *at++ = LOAD(ARGUMENT(call->mode));
        *at++ = AND(S_IFMT);
        *at++ = BRANCH(BPF_JEQ, 0, 1, 0);
        *at++ = BRANCH(BPF_JEQ, S_IFREG, 0, 1);
        *at++ = TRAP;
        *at++ = ALLOW;
    } else {
        *at++ = TRAP;
    }
    return at;
}

static struct sock_filter *table_steps(const struct table *table, struct sock_filter *at)
{
    *at++ = LOAD(offsetof(struct seccomp_data, arch));
    *at++ = BRANCH(BPF_JEQ, table->arch, 1, 0);
    struct sock_filter *skip = at++; /* a branch reaches 255 steps: the whole is left out by a jump */
    *at++ = LOAD(offsetof(struct seccomp_data, nr));
    if (table->arch == AUDIT_ARCH_X86_64)
        *at++ = AND(~X32_BIT);
    for (int c = 0; c < table->length; c++) {
        struct sock_filter *test = at++;
        at = trap_steps(&table->calls[c], at);
        *test = BRANCH(BPF_JEQ, table->calls[c].number, 0, (uint8_t)(at - test - 1));
    }
    *at++ = ALLOW;
    *skip = STEP(BPF_JMP | BPF_JA, at - skip - 1);
    return at;
}

int filter_build(const char *machine, struct sock_filter *steps)
{
    struct utsname system;
    if (machine == NULL) {
        uname(&system);
        machine = system.machine;
    }
    struct sock_filter *at = steps;
    for (int t = 0; t < LENGTH(TABLES); t++)
        if (strcmp(TABLES[t].machine, machine) == 0)
            at = table_steps(&TABLES[t], at);
    if (at == steps)
        return 0;
    *at++ = ALLOW;
    return (int)(at - steps);
}

static int try_filter(unsigned long flags, struct sock_fprog *program)
{
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program);
}

int filter_install(void)
{
    struct sock_filter steps[FILTER_MAX];
    struct sock_fprog program = {.len = (unsigned short)filter_build(NULL, steps), .filter = steps};
    unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
                          SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    if (program.len == 0) {
        errno = ENOSYS;
        return -1;
    }
    int listener = try_filter(flags, &program);
    if (listener < 0 && errno == EINVAL) { /* Linux < 5.19 */
        flags &= ~SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        listener = try_filter(flags, &program);
    }
    if (listener < 0 && errno == EACCES) { /* without CAP_SYS_ADMIN the kernel demands it */
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        listener = try_filter(flags, &program);
    }
    return listener;
}
