/* What to execute, and the child that becomes the script. */
#include "shim.h"

#include <linux/close_range.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* ------------------------------------------------------------------------------------------------- the launch file */

static char *read_whole(int folder, const char *name, size_t *size)
{
    struct stat st;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    char *data = fd < 0 || fstat(fd, &st) < 0 ? NULL : malloc((size_t)st.st_size + 1);
    *size = 0;
    ssize_t got = 1;
    while (data && *size < (size_t)st.st_size && got > 0)
        if ((got = read(fd, data + *size, (size_t)st.st_size - *size)) > 0)
            *size += (size_t)got;
    if (fd >= 0)
        close(fd);
    return data;
}

static const char *value_of(const char *text, const char *name)
{
    size_t length = strlen(name);
    return strncmp(text, name, length) == 0 && text[length] == '=' ? text + length + 1 : NULL;
}

int launch_read(int folder, struct launch *launch)
{
    size_t size, words = 0, variables = 0, texts = 0;
    char *data = read_whole(folder, "launch", &size);
    if (!data)
        return errno;
    data[size] = 0;
    for (size_t i = 0; i < size; i++)
        texts += data[i] == 0;
    *launch = (struct launch){
        .argv = calloc(texts + 1, sizeof(char *)),
        .env = calloc(texts + 1, sizeof(char *)),
        .umask = 022,
    };
    if (!launch->argv || !launch->env)
        return ENOMEM;
    for (char *text = data; text < data + size; text += strlen(text) + 1) {
        const char *value;
        if ((value = value_of(text, "argv")))
            launch->argv[words++] = (char *)value;
        else if ((value = value_of(text, "env")))
            launch->env[variables++] = (char *)value;
        else if ((value = value_of(text, "cwd")))
            launch->cwd = value;
        else if ((value = value_of(text, "output")))
            launch->output = value;
        else if ((value = value_of(text, "capture")))
            launch->capture = value;
        else if ((value = value_of(text, "linger")))
            launch->linger = strtod(value, NULL);
        else if ((value = value_of(text, "kill_grace")))
            launch->kill_grace = strtod(value, NULL);
        else if ((value = value_of(text, "umask")))
            launch->umask = (mode_t)strtoul(value, NULL, 8);
    }
    return words && launch->cwd && launch->output && launch->capture ? 0 : EINVAL;
}

/* ------------------------------------------------------------------------------------------------------- the script */

static _Noreturn void fail(int to, const char *what)
{
    char text[PATH_MAX];
    int length = snprintf(text, sizeof text, "%.4000s: %s", what, strerror(errno));
    (void)!write(to, text, (size_t)length);
    _exit(127);
}

static void reset_signals(void)
{
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL); /* fails for those that cannot be changed */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Sends a text, and a descriptor with it when there is one. */
static bool send_listener(int channel, const char *text, int listener)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec io = {.iov_base = (char *)text, .iov_len = strlen(text)};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
    if (listener >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &listener, sizeof listener);
    }
    return sendmsg(channel, &message, MSG_NOSIGNAL) > 0;
}

static bool set_filter(const struct launch *launch, int channel)
{
    char text[200] = "+";
    if (strcmp(launch->capture, "off") == 0 || strcmp(launch->capture, "watch") == 0)
        return send_listener(channel, "-", -1);
    int listener = filter_install();
    if (listener < 0)
        snprintf(text, sizeof text, "this kernel refuses seccomp user notification: %s", strerror(errno));
    bool sent = send_listener(channel, text, listener);
    if (listener >= 0)
        close(listener);
    return sent;
}

int receive_listener(int channel, char *why, size_t size)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec io = {.iov_base = why, .iov_len = size - 1};
    struct msghdr message = {
        .msg_iov = &io,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    ssize_t length;
    do
        length = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR); /* a SIGCONT, after somebody had stopped us */
    why[length > 0 ? length : 0] = 0;
    struct cmsghdr *header = length > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    int listener = -1;
    if (header)
        memcpy(&listener, CMSG_DATA(header), sizeof listener);
    if (strcmp(why, "-") == 0)
        why[0] = 0;
    return listener;
}

_Noreturn void become_script(const struct launch *launch, int channel, int error)
{
    char go;
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int output = open(launch->output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (null < 0 || dup2(null, 0) < 0)
        fail(error, "/dev/null");
    if (output < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
        fail(error, launch->output);
    reset_signals();
    umask(launch->umask);
    if (chdir(launch->cwd) < 0)
        fail(error, launch->cwd);
    if (!set_filter(launch, channel))
        _exit(127);
    if (recv(channel, &go, 1, 0) != 1) {
        static const char why[] = "its shim was killed before it could begin";
        (void)!write(error, why, sizeof why - 1);
        _exit(127);
    }
    syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
    execve(launch->argv[0], launch->argv, launch->env);
    fail(error, launch->argv[0]);
}
