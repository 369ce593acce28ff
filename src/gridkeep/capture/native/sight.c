/* What is there, and where: states of files, folders to start from, canonical paths. */
#include "resolve.h"

#include <dirent.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#ifndef STATX_MNT_ID_UNIQUE /* Linux >= 6.8 */
#define STATX_MNT_ID_UNIQUE 0x4000U
#endif

struct world world;

int look_at(int folder, const char *path, int flags, struct sight *sight)
{
    struct statx st;
    if (statx(folder, path, flags | AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS | STATX_MNT_ID_UNIQUE, &st) < 0)
        return errno;
    *sight = (struct sight){
        .stamp =
            {
                .dev = makedev(st.stx_dev_major, st.stx_dev_minor),
                .ino = st.stx_ino,
                .size = (int64_t)st.stx_size,
                .mtime_ns = nanoseconds(st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec),
                .ctime_ns = nanoseconds(st.stx_ctime.tv_sec, st.stx_ctime.tv_nsec),
                .mode = st.stx_mode,
            },
        .links = st.stx_nlink,
        .mount = st.stx_mask & STATX_MNT_ID_UNIQUE ? st.stx_mnt_id : 0,
    };
    return 0;
}

int look_through(int fd, struct sight *sight)
{
    return look_at(fd, "", AT_EMPTY_PATH, sight);
}

int look_of(pid_t tid, const char *name, struct sight *sight)
{
    char path[64];
    snprintf(path, sizeof path, "%d/%s", (int)tid, name);
    return look_at(world.proc_folder, path, 0, sight);
}

int resolve_prepare(void)
{
    struct sight proc, sys, root, users, mounts;
    world.proc_folder = open("/proc", LOOK | O_DIRECTORY);
    world.own_fds = open("/proc/self/fd", LOOK | O_DIRECTORY);
    world.root_folder = open("/", LOOK | O_DIRECTORY);
    if (world.proc_folder < 0 || world.own_fds < 0 || world.root_folder < 0)
        return errno;
    int error = look_at(AT_FDCWD, "/proc", 0, &proc);
    if (!error)
        error = look_at(AT_FDCWD, "/", 0, &root);
    if (!error)
        error = look_of(getpid(), "ns/user", &users);
    if (!error)
        error = look_of(getpid(), "ns/mnt", &mounts);
    if (error)
        return error;
    world.proc = proc.stamp.dev;
    world.sys = look_at(AT_FDCWD, "/sys", 0, &sys) == 0 ? sys.stamp.dev : proc.stamp.dev;
    world.root = root.stamp;
    world.users = users.stamp;
    world.mounts = mounts.stamp;
    return 0;
}

bool is_skipped(const struct sight *sight)
{
    return sight->stamp.dev == world.proc || sight->stamp.dev == world.sys;
}

static void base_name(pid_t tid, int dirfd, char name[64])
{
    if (dirfd == AT_FDCWD)
        snprintf(name, 64, "%d/cwd", (int)tid);
    else
        snprintf(name, 64, "%d/fd/%d", (int)tid, dirfd);
}

int open_base(pid_t tid, int dirfd)
{
    char name[64];
    base_name(tid, dirfd, name);
    return openat(world.proc_folder, name, LOOK);
}

int open_root(pid_t tid)
{
    char path[64];
    snprintf(path, sizeof path, "%d/root", (int)tid);
    return openat(world.proc_folder, path, LOOK);
}

/* -------------------------------------------------------------------------------------------------- canonical paths */

/* Puts `/name` behind the path. */
int join(struct target *target, const char *name)
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

static int read_link(int folder, const char *name, struct target *target)
{
    ssize_t length = readlinkat(folder, name, target->path, PATH_MAX);
    if (length < 0)
        return errno;
    target->length = (size_t)length;
    target->path[length] = 0;
    return 0;
}

static int link_of(int fd, struct target *target)
{
    char name[16];
    snprintf(name, sizeof name, "%d", fd);
    return read_link(world.own_fds, name, target);
}

static bool says_deleted(const struct target *target)
{
    static const char mark[] = " (deleted)";
    size_t length = sizeof mark - 1;
    return target->length > length && memcmp(target->path + target->length - length, mark, length) == 0;
}

int path_of_base(pid_t tid, int dirfd, struct target *target)
{
    char name[64];
    base_name(tid, dirfd, name);
    int error = read_link(world.proc_folder, name, target);
    return error || target->path[0] != '/' || says_deleted(target) ? WALK : 0;
}

/* Finds the name of the folder of this `sight` in the folder above it. */
static bool name_in(int above, const struct sight *sight, char name[NAME_MAX + 1])
{
    int fd = openat(above, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    struct sight one;
    bool found = false;
    while (listing && !found && (entry = readdir(listing))) {
        if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN)
            continue;
        found = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                look_at(above, entry->d_name, AT_SYMLINK_NOFOLLOW, &one) == 0 && same_file(&one.stamp, &sight->stamp);
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
        struct sight sight;
        int above = openat(fd, "..", LOOK | O_DIRECTORY);
        bool known = above >= 0 && look_through(fd, &sight) == 0 && name_in(above, &sight, name);
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

/* By way of a current folder, our own: half as long as by a link of /proc. We do not stay, or its disk could not be
 * unmounted. */
int path_of_folder(int folder, struct target *target)
{
    if (fchdir(folder) < 0)
        return WALK;
    long length = syscall(SYS_getcwd, target->path, PATH_MAX); /* with its final NUL */
    int error = length < 0 ? errno : 0;
    if (fchdir(world.root_folder) < 0)
        return errno;
    if (error == ENOENT)
        return VANISHED;
    if (error || target->path[0] != '/')
        return error == ERANGE || error == ENAMETOOLONG ? climb(folder, target) : WALK;
    target->length = (size_t)length - 1;
    return 0;
}

bool leads_to(const char *path, const struct sight *sight)
{
    struct sight here;
    return look_at(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &here) == 0 && same_file(&here.stamp, &sight->stamp);
}

/* The path of what a descriptor shows. */
int path_of(int fd, const struct sight *sight, struct target *target)
{
    int error = link_of(fd, target);
    if (sight->links == 0 || (!error && says_deleted(target) && !leads_to(target->path, sight)))
        return VANISHED;
    if (error == ENAMETOOLONG)
        return S_ISDIR(sight->stamp.mode) ? climb(fd, target) : EOVERFLOW;
    return error;
}
