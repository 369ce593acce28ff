/* From what a thread passed to a system call (a folder, some text) to one canonical path and what is there now.
 *
 * Everything is looked up through the thread's own eyes: its current folder, its descriptors, its root, its /proc/self.
 * As long as nobody of the tree has left our root and our mounts, and no link is on the way, the text is the path.
 * Else one look-up of the kernel's mostly tells all; where something lies on the way that leads elsewhere for us than for
 * the thread (a link of /proc, another root), the way is walked name by name (walk.c).
 */
#include "resolve.h"

#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#define TRIES 50  /* of looking again at what others remove while we look */
#define MOUNTS 16 /* that are remembered */

static const uint32_t EXACT[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC, OVERLAYFS_SUPER_MAGIC};

/* Where a look-up of the kernel's starts, and what it must not do on its way for us to see what the thread sees. */
struct base {
    pid_t tid;
    int fd;
    uint64_t bounds; /* RESOLVE_… */
};

static int open_path(const struct base *base, const char *text, int flags)
{
    struct open_how how = {.flags = (uint64_t)(LOOK | O_NOFOLLOW | flags), .resolve = base->bounds};
    return (int)syscall(SYS_openat2, base->fd, text, &how, sizeof how);
}

/* The folder of what `text` names, a descriptor to be closed unless it is the base's own; `name` is its last name,
 * inside `text`. -1: there is none to be told apart. */
static int open_parent(const struct base *base, const char *text, const char **name)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(text, '/');
    *name = slash ? slash + 1 : text;
    if (!**name || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
        return -1;
    if (!slash)
        return base->fd;
    memcpy(parent, text, (size_t)(*name - text)); /* with the slash: a link there is followed */
    parent[*name - text] = 0;
    return open_path(base, parent, O_DIRECTORY);
}

/* Whether this lies on a mount of our own namespace, so that its path is ours too. Those once found are remembered. */
static bool is_on_our_mount(pid_t tid, const struct sight *sight, const struct target *target)
{
    static uint64_t known[MOUNTS];
    static unsigned next;
    struct sight mounts;
    for (int i = 0; sight->mount && i < MOUNTS; i++)
        if (known[i] == sight->mount)
            return true;
    if (look_of(tid, "ns/mnt", &mounts) != 0 || !same_file(&mounts.stamp, &world.mounts))
        return false;
    if (sight->mount && leads_to(target->path, sight))
        known[next++ % MOUNTS] = sight->mount;
    return true;
}

/* What is called `name` in an open folder, into the target's stamp: there, or a name for something new (ino 0). `sight`: of
 * it, or of the folder. WALK: a link, or no place for files. */
static int look_in(int folder, const char *name, bool follow, struct sight *sight, struct target *target)
{
    int error = look_at(folder, name, AT_SYMLINK_NOFOLLOW, sight);
    bool there = !error;
    if (error == ENOENT)
        error = look_through(folder, sight);
    if (error || is_skipped(sight) || (there && follow && S_ISLNK(sight->stamp.mode)))
        return WALK;
    target->stamp = there ? sight->stamp : (struct stamp){0};
    return 0;
}

/* The same, and its path. */
static int in_folder(const struct base *base, int folder, const char *name, bool follow, struct target *target)
{
    struct sight sight;
    int error = look_in(folder, name, follow, &sight, target);
    bool there = !error && target->stamp.ino;
    if (!error)
        error = path_of_folder(folder, target);
    if (!error && there)
        error = join(target, name);
    if (!error && !is_on_our_mount(base->tid, &sight, target))
        return WALK;
    return error || there ? error : join(target, name);
}

static int from_base(const struct base *base, const char *text, bool follow, struct target *target)
{
    const char *name;
    int folder = open_parent(base, text, &name);
    if (folder < 0)
        return WALK;
    int error = in_folder(base, folder, name, follow, target);
    if (folder != base->fd)
        close(folder);
    return error;
}

/* By the kernel's own look-up; WALK when there is anything on the way that has to be walked to. Bound to the thread's
 * root, or without any link and `..`, it is the same for us as for the thread. `same_root`: so it is anyhow. */
static int at_once(pid_t tid, int dirfd, const char *text, int how, bool same_root, struct target *target)
{
    struct base base = {.tid = tid, .bounds = RESOLVE_NO_MAGICLINKS};
    bool bound = how & IN_ROOT || *text == '/';
    if (bound)
        base.bounds |= RESOLVE_IN_ROOT;
    else if (!same_root && strstr(text, ".."))
        return WALK;
    else if (!same_root)
        base.bounds |= RESOLVE_NO_SYMLINKS;
    base.fd = bound && !(how & IN_ROOT) ? open_root(tid) : open_base(tid, dirfd);
    if (base.fd < 0)
        return WALK;
    int error = from_base(&base, text, how & FOLLOW, target);
    close(base.fd);
    return error;
}

/* ---------------------------------------------------------------------------------------------------------- by name */

/* Whether each name of a path is one: not empty, `.` or `..`. */
static bool is_plain(const char *path)
{
    for (const char *name = path; *name; name += strcspn(name, "/")) {
        name += *name == '/';
        size_t length = strcspn(name, "/");
        if (length == 0 || (*name == '.' && (length == 1 || (length == 2 && name[1] == '.'))))
            return false;
    }
    return true;
}

/* The path that a text is, if nothing on the way is a link; a relative one behind its folder's. */
static int put_path(pid_t tid, int dirfd, const char *text, struct target *target)
{
    target->length = 0;
    int error = *text == '/' ? 0 : path_of_base(tid, dirfd, target);
    size_t length = strlen(text);
    if (error || !is_plain(text) || target->length + length + 1 >= PATH_MAX)
        return WALK;
    if (*text != '/')
        return join(target, text);
    memcpy(target->path, text, length + 1);
    target->length = length;
    return 0;
}

/* Whether a name there is the very one that was written: other file systems may take `a` for what is called `A`. Mounts once
 * found to be so are remembered. */
static bool is_exact(int folder, const struct sight *sight)
{
    static uint64_t known[MOUNTS];
    static unsigned next;
    struct statfs fs;
    for (int i = 0; sight->mount && i < MOUNTS; i++)
        if (known[i] == sight->mount)
            return true;
    if (!sight->mount || fstatfs(folder, &fs) < 0)
        return false;
    for (size_t i = 0; i < sizeof EXACT / sizeof *EXACT; i++)
        if ((uint32_t)fs.f_type == EXACT[i]) {
            known[next++ % MOUNTS] = sight->mount;
            return true;
        }
    return false;
}

/* Where text and path are one, which RESOLVE_NO_SYMLINKS sees to; WALK where they are not, or it cannot be told. */
static int by_name(pid_t tid, int dirfd, const char *text, int how, struct target *target)
{
    const struct base root = {.tid = tid, .fd = world.root_folder, .bounds = RESOLVE_NO_SYMLINKS};
    const char *name;
    struct sight sight;
    if (parted() || how & IN_ROOT || put_path(tid, dirfd, text, target) != 0)
        return WALK;
    int folder = open_parent(&root, target->path, &name);
    if (folder < 0)
        return WALK;
    int error = look_in(folder, name, how & FOLLOW, &sight, target);
    if (!error && !is_exact(folder, &sight))
        error = WALK;
    close(folder);
    return error;
}

/* -------------------------------------------------------------------------------------------------------- with care */

/* What a failed look-up means: the thread's own call will fail the same way, unless it may pass where we may not (a
 * user namespace of its own may give it more rights). */
static int meaning(pid_t tid, int error)
{
    struct sight users;
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return NO_TARGET;
    case EACCES:
        error = look_of(tid, "ns/user", &users);
        return error ? error : same_file(&users.stamp, &world.users) ? NO_TARGET : EACCES;
    default:
        return error;
    }
}

/* When the first look-up met something on its way: with all that is to be known of the thread's world. */
static int with_care(pid_t tid, int dirfd, const char *text, int how, struct target *target)
{
    struct sight mounts, root;
    int error = look_of(tid, "ns/mnt", &mounts);
    if (!error)
        error = look_of(tid, "root", &root);
    if (error)
        return error; /* we may not look */
    bool same_mounts = same_file(&mounts.stamp, &world.mounts);
    error = WALK;
    if (same_mounts && !(how & IN_ROOT) && *text != '/' && same_file(&root.stamp, &world.root))
        error = at_once(tid, dirfd, text, how, true, target);
    if (error == WALK)
        error = by_walking(tid, dirfd, text, how, same_mounts, target);
    return error > 0 ? meaning(tid, error) : error;
}

int resolve(pid_t tid, int dirfd, const char *text, int how, struct target *target)
{
    for (int tries = 0; *text && tries < TRIES; tries++) {
        int error = by_name(tid, dirfd, text, how, target);
        if (error == WALK)
            error = at_once(tid, dirfd, text, how, false, target);
        if (error == WALK)
            error = with_care(tid, dirfd, text, how, target);
        if (error != VANISHED)
            return error;
    }
    return NO_TARGET;
}
