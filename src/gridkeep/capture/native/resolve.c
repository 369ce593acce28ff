/* From what a thread passed to a system call (a folder, some text) to one canonical path and what is there now.
 *
 * Everything is looked up through the thread's own eyes: its current folder, its descriptors, its root, its /proc/self.
 * Mostly one look-up of the kernel's tells all; where something lies on the way that leads elsewhere for us than for
 * the thread (a link of /proc, another root), the way is walked name by name.
 */
#include "shim.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#define LINKS_MAX 40 /* as the kernel's */
#define TRIES 5      /* of looking again at what others remove while we look */
#define PROC_ROOT 1  /* inode of /proc itself: its links are texts, those below are doors */
#define LOOK (O_PATH | O_CLOEXEC)

enum { FOUND = 0, VANISHED = -2, WALK = -3 }; /* beside NO_TARGET and errnos */

/* Our own world, to tell another's from it. */
static struct {
    dev_t proc, sys;
    struct stat root;
    ino_t users, mounts;
} world;

int resolve_prepare(void)
{
    struct stat proc, sys, users, mounts;
    if (stat("/proc", &proc) < 0 || stat("/", &world.root) < 0 || stat("/proc/self/ns/user", &users) < 0 ||
        stat("/proc/self/ns/mnt", &mounts) < 0)
        return errno;
    world.proc = proc.st_dev;
    world.sys = stat("/sys", &sys) == 0 ? sys.st_dev : proc.st_dev;
    world.users = users.st_ino;
    world.mounts = mounts.st_ino;
    return 0;
}

static bool is_same(const struct stat *one, const struct stat *other)
{
    return one->st_ino == other->st_ino && one->st_dev == other->st_dev;
}

/* Files of /proc and /sys are no one's writing. */
static bool is_skipped(const struct stat *st)
{
    return st->st_dev == world.proc || st->st_dev == world.sys;
}

static int stat_of(pid_t tid, const char *name, struct stat *st)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)tid, name);
    return stat(path, st);
}

/* A new descriptor of the folder that a thread's paths are relative to, or -1. */
static int open_base(pid_t tid, int dirfd)
{
    char path[64];
    if (dirfd == AT_FDCWD)
        snprintf(path, sizeof path, "/proc/%d/cwd", (int)tid);
    else
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)tid, dirfd);
    return open(path, LOOK);
}

/* -------------------------------------------------------------------------------------------------- canonical paths */

/* Puts `/name` behind the path. */
static int join(struct target *target, const char *name)
{
    size_t length = strlen(name);
    if (target->length + length + 2 > LONG_PATH)
        return EOVERFLOW;
    if (target->length > 1) /* not behind the root's own slash */
        target->path[target->length++] = '/';
    memcpy(target->path + target->length, name, length + 1);
    target->length += length;
    return 0;
}

static int link_of(int fd, struct target *target)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target->path, PATH_MAX);
    if (length < 0)
        return errno;
    target->length = (size_t)length;
    target->path[length] = 0;
    return 0;
}

/* Finds the name of the folder `st` in the folder above it. */
static bool name_in(int above, const struct stat *st, char name[NAME_MAX + 1])
{
    int fd = openat(above, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    struct stat one;
    bool found = false;
    while (listing && !found && (entry = readdir(listing))) {
        if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN)
            continue;
        found = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                fstatat(above, entry->d_name, &one, AT_SYMLINK_NOFOLLOW) == 0 && is_same(&one, st);
        strcpy(name, entry->d_name);
    }
    if (listing)
        closedir(listing);
    else if (fd >= 0)
        close(fd);
    return found;
}

/* The path of a folder so deep that the kernel does not tell it: upwards until it does, name by name. */
static int climb(int folder, struct target *target)
{
    static char names[LONG_PATH];
    char *at = names + sizeof names - 1;
    int error, fd = openat(folder, ".", LOOK);
    *at = 0;
    while ((error = fd < 0 ? errno : link_of(fd, target)) == ENAMETOOLONG) {
        char name[NAME_MAX + 1];
        struct stat st;
        int above = openat(fd, "..", LOOK | O_DIRECTORY);
        bool known = above >= 0 && fstat(fd, &st) == 0 && name_in(above, &st, name);
        close(fd);
        fd = above;
        if (!known || strlen(name) >= (size_t)(at - names))
            break;
        at -= strlen(name);
        memcpy(at, name, strlen(name));
        *--at = '/';
    }
    if (fd >= 0)
        close(fd);
    if (error)
        return EOVERFLOW;
    return *at ? join(target, at + 1) : 0;
}

/* Whether we see under this path what the thread sees. */
static bool leads_to(const char *path, const struct stat *st)
{
    struct stat here;
    return lstat(path, &here) == 0 && is_same(&here, st);
}

static bool says_deleted(const struct target *target)
{
    static const char mark[] = " (deleted)";
    size_t length = sizeof mark - 1;
    return target->length > length && memcmp(target->path + target->length - length, mark, length) == 0;
}

/* The path of what a descriptor shows. */
static int path_of(int fd, const struct stat *st, struct target *target)
{
    int error = link_of(fd, target);
    if (st->st_nlink == 0 || (!error && says_deleted(target) && !leads_to(target->path, st)))
        return VANISHED;
    if (error == ENAMETOOLONG)
        return S_ISDIR(st->st_mode) ? climb(fd, target) : EOVERFLOW;
    return error;
}

/* ---------------------------------------------------------------------------------------------------------- at once */

/* By the kernel's own look-up; it fails where a link of /proc would be gone through, which leads elsewhere for us. */
static int open_path(int base, const char *text, int flags)
{
    struct open_how how = {.flags = (uint64_t)(LOOK | O_NOFOLLOW | flags), .resolve = RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, base, text, &how, sizeof how);
}

/* Opens the folder of what `text` names; `name` is its last name, inside `text`. -1: there is none to be told apart. */
static int open_parent(int base, const char *text, const char **name)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(text, '/');
    *name = slash ? slash + 1 : text;
    if (!**name || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
        return -1;
    if (!slash)
        return open_path(base, ".", O_DIRECTORY);
    memcpy(parent, text, (size_t)(*name - text)); /* with the slash: a link there is followed */
    parent[*name - text] = 0;
    return open_path(base, parent, O_DIRECTORY);
}

/* `text` as a name in its folder: when nothing is there, or what is there lies too deep for the kernel to tell. */
static int by_parent(int base, const char *text, struct target *target)
{
    struct stat st;
    const char *name;
    int folder = open_parent(base, text, &name);
    if (folder < 0)
        return WALK;
    int error = fstat(folder, &st) < 0 ? errno : is_skipped(&st) ? WALK : path_of(folder, &st, target);
    close(folder);
    return error ? error : join(target, name);
}

static int from_base(int base, const char *text, bool follow, struct target *target)
{
    struct stat st;
    int fd = open_path(base, text, 0);
    target->stamp = (struct stamp){0};
    if (fd < 0)
        return errno == ENOENT ? by_parent(base, text, target) : WALK;
    int error = fstat(fd, &st) < 0 ? errno : 0;
    if (!error && (is_skipped(&st) || (follow && S_ISLNK(st.st_mode))))
        error = WALK;
    if (!error) {
        target->stamp = stamp_of(&st);
        error = path_of(fd, &st, target);
        if (error == EOVERFLOW)
            error = by_parent(base, text, target);
    }
    close(fd);
    return error;
}

/* WALK when there is anything on the way that has to be walked to. */
static int at_once(pid_t tid, int dirfd, const char *text, bool follow, struct target *target)
{
    if (*text == '/')
        return from_base(AT_FDCWD, text, follow, target);
    int base = open_base(tid, dirfd);
    if (base < 0)
        return WALK;
    int error = from_base(base, text, follow, target);
    close(base);
    return error;
}

/* ---------------------------------------------------------------------------------------------------- name by name */

/* A thread's way to a file, as the kernel goes it for that thread. */
struct walk {
    pid_t tid;
    int root, here; /* descriptors */
    bool by_door;   /* `here` was reached through a link of /proc, not by a name of its own */
    int links;
    char *rest;                /* what is still to go, in `text` */
    char text[4 * PATH_MAX];   /* it grows to the front, by what links say */
    const char *missing;       /* at the end: the last name, when there is nothing of that name */
};

static void move(struct walk *walk, int fd, bool by_door)
{
    close(walk->here);
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
    struct stat here, root;
    return fstat(walk->here, &here) == 0 && fstat(walk->root, &root) == 0 && is_same(&here, &root);
}

/* Goes where a symbolic link says, or through a door of /proc. */
static int take_link(struct walk *walk, const char *name, int link, const struct stat *st)
{
    char text[PATH_MAX];
    struct stat here;
    int fd;
    if (++walk->links > LINKS_MAX)
        return ELOOP;
    bool in_proc = st->st_dev == world.proc;
    if (in_proc && fstat(walk->here, &here) == 0 && here.st_ino != PROC_ROOT) {
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
    struct stat st;
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
    if (fstat(below, &st) == 0 && S_ISLNK(st.st_mode) && (!last || follow)) {
        int error = take_link(walk, name, below, &st);
        close(below);
        return error;
    }
    move(walk, below, false);
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
    struct stat st;
    if (fstat(walk->here, &st) < 0)
        return errno;
    if (is_skipped(&st) || (walk->by_door && st.st_nlink == 0))
        return NO_TARGET; /* no place for files; or a file that has no name any more, opened once again */
    int error = path_of(walk->here, &st, target);
    if (error)
        return error;
    if (!same_mounts && !leads_to(target->path, &st))
        return EXDEV;
    target->stamp = walk->missing ? (struct stamp){0} : stamp_of(&st);
    return walk->missing ? join(target, walk->missing) : 0;
}

static int by_walking(pid_t tid, int dirfd, const char *text, int how, bool same_mounts, struct target *target)
{
    char root[64];
    struct walk walk = {.tid = tid, .rest = walk.text + sizeof walk.text - 1};
    *walk.rest = 0;
    walk.rest -= strlen(text);
    memcpy(walk.rest, text, strlen(text));
    snprintf(root, sizeof root, "/proc/%d/root", (int)tid);
    walk.root = how & IN_ROOT ? open_base(tid, dirfd) : open(root, LOOK);
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
    return error;
}

/* ---------------------------------------------------------------------------------------------------------- together */

/* What a failed look-up means: the thread's own call will fail the same way, unless it may pass where we may not (a
 * user namespace of its own may give it more rights). */
static int meaning(pid_t tid, int error)
{
    struct stat users;
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return NO_TARGET;
    case EACCES:
        if (stat_of(tid, "ns/user", &users) < 0)
            return errno;
        return users.st_ino == world.users ? NO_TARGET : EACCES;
    default:
        return error;
    }
}

int resolve(pid_t tid, int dirfd, const char *text, int how, struct target *target)
{
    struct stat mounts, root;
    if (!*text)
        return NO_TARGET;
    if (stat_of(tid, "ns/mnt", &mounts) < 0 || stat_of(tid, "root", &root) < 0)
        return errno;
    bool same_mounts = mounts.st_ino == world.mounts;
    bool ours = same_mounts && !(how & IN_ROOT) && is_same(&root, &world.root);
    for (int tries = 0; tries < TRIES; tries++) {
        int error = ours ? at_once(tid, dirfd, text, how & FOLLOW, target) : WALK;
        if (error == WALK)
            error = by_walking(tid, dirfd, text, how, same_mounts, target);
        if (error != VANISHED)
            return error > 0 ? meaning(tid, error) : error;
    }
    return NO_TARGET;
}
