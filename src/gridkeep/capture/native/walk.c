/* A thread's way to a file, name by name, as the kernel goes it for that thread: with its root and its /proc/self. */
#include "resolve.h"

#define LINKS_MAX 40 /* as the kernel's */
#define PROC_ROOT 1  /* inode of /proc itself: its links are texts, those below are doors */

struct walk {
    pid_t tid;
    int root, here, before;  /* descriptors; `before`: of where it stood a step ago */
    bool by_door;            /* `here` was reached through a link of /proc, not by a name of its own */
    int links;               /* taken so far */
    const char *name;        /* of the last step, in `text` */
    const char *missing;     /* the last name, when there is nothing of that name */
    char *rest;              /* what is still to go, in `text` */
    char text[4 * PATH_MAX]; /* it grows to the front, by what links say */
};

static void move(struct walk *walk, int fd, bool by_door)
{
    if (walk->before >= 0)
        close(walk->before);
    walk->before = walk->here;
    walk->here = fd;
    walk->by_door = by_door;
}

/* Puts a text in front of what is still to go. */
static int put_before(struct walk *walk, const char *text)
{
    size_t length = strlen(text);
    if (length + 1 > (size_t)(walk->rest - walk->text))
        return EOVERFLOW;
    *--walk->rest = '/';
    walk->rest -= length;
    memcpy(walk->rest, text, length);
    return 0;
}

static bool at_root(const struct walk *walk)
{
    struct sight here, root;
    return look_through(walk->here, &here) == 0 && look_through(walk->root, &root) == 0 &&
           same_file(&here.stamp, &root.stamp);
}

/* Goes where a symbolic link says, or through a door of /proc. */
static int take_link(struct walk *walk, const char *name, int link, const struct sight *sight)
{
    char text[PATH_MAX];
    struct sight here;
    int fd;
    if (++walk->links > LINKS_MAX)
        return ELOOP;
    bool in_proc = sight->stamp.dev == world.proc;
    if (in_proc && look_through(walk->here, &here) == 0 && here.stamp.ino != PROC_ROOT) {
        if ((fd = openat(walk->here, name, LOOK)) < 0)
            return errno;
        move(walk, fd, true);
        return 0;
    }
    int group = in_proc ? (int)thread_group(walk->tid) : 0;
    if (in_proc && strcmp(name, "self") == 0) {
        snprintf(text, sizeof text, "%d", group);
    } else if (in_proc && strcmp(name, "thread-self") == 0) {
        snprintf(text, sizeof text, "%d/task/%d", group, (int)walk->tid);
    } else {
        ssize_t length = readlinkat(link, "", text, sizeof text - 1);
        if (length < 0)
            return errno;
        text[length] = 0;
        if (*text == '/') {
            if ((fd = openat(walk->root, ".", LOOK)) < 0)
                return errno;
            move(walk, fd, false);
        }
    }
    return put_before(walk, text);
}

/* One name further. */
static int step(struct walk *walk, const char *name, bool last, bool follow)
{
    struct sight sight;
    if (!*name || strcmp(name, ".") == 0 || (strcmp(name, "..") == 0 && at_root(walk)))
        return 0;
    int below = openat(walk->here, name, LOOK | O_NOFOLLOW);
    if (below < 0) {
        if (errno == ENOENT && walk->rest[strspn(walk->rest, "/")] == 0 && strcmp(name, "..") != 0) {
            walk->missing = name;
            return 0;
        }
        return errno;
    }
    if (look_through(below, &sight) == 0 && S_ISLNK(sight.stamp.mode) && (!last || follow)) {
        int error = take_link(walk, name, below, &sight);
        close(below);
        return error;
    }
    move(walk, below, false);
    walk->name = name;
    return 0;
}

static int go(struct walk *walk, bool follow)
{
    int error = 0;
    while (!error && *walk->rest && !walk->missing) {
        char *name = walk->rest;
        char *slash = strchr(name, '/');
        if (slash)
            *slash = 0;
        walk->rest = slash ? slash + 1 : name + strlen(name);
        error = step(walk, name, !slash, follow);
    }
    return error;
}

static int at_the_end(const struct walk *walk, bool same_mounts, struct target *target)
{
    struct sight sight, before;
    int error = look_through(walk->here, &sight);
    if (error)
        return error;
    if (is_skipped(&sight) || (walk->by_door && sight.links == 0))
        return NO_TARGET; /* no place for files; or a file that has no name any more, opened once again */
    error = path_of(walk->here, &sight, target);
    if (error == EOVERFLOW && !S_ISDIR(sight.stamp.mode) && !walk->by_door && !look_through(walk->before, &before)) {
        error = path_of(walk->before, &before, target);
        if (!error)
            error = join(target, walk->name);
    }
    if (error)
        return error;
    if (!same_mounts && !leads_to(target->path, &sight))
        return EXDEV;
    target->stamp = walk->missing ? (struct stamp){0} : sight.stamp;
    return walk->missing ? join(target, walk->missing) : 0;
}

int by_walking(pid_t tid, int dirfd, const char *text, int how, bool same_mounts, struct target *target)
{
    struct walk walk = {.tid = tid, .before = -1, .rest = walk.text + sizeof walk.text - 1};
    *walk.rest = 0;
    walk.rest -= strlen(text);
    memcpy(walk.rest, text, strlen(text));
    walk.root = how & IN_ROOT ? open_base(tid, dirfd) : open_root(tid);
    if (walk.root < 0)
        return errno;
    bool from_root = how & IN_ROOT || *text == '/';
    walk.here = from_root ? openat(walk.root, ".", LOOK) : open_base(tid, dirfd);
    int error = walk.here < 0 ? errno : go(&walk, how & FOLLOW);
    if (!error)
        error = at_the_end(&walk, same_mounts, target);
    close(walk.root);
    if (walk.here >= 0)
        close(walk.here);
    if (walk.before >= 0)
        close(walk.before);
    return error;
}
