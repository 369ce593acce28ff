/* What the parts of resolving share: resolve.c, walk.c (name by name) and sight.c (what is there, and its path). */
#ifndef GRIDKEEP_RESOLVE_H
#define GRIDKEEP_RESOLVE_H

#include "shim.h"

#define LOOK (O_PATH | O_CLOEXEC)

enum { FOUND = 0, VANISHED = -2, WALK = -3 }; /* beside NO_TARGET and errnos */

/* -------------------------------------------------------------------------------------------------- sight.c */

/* What a descriptor or a path shows. */
struct sight {
    struct stamp stamp;
    uint32_t links;
    uint64_t mount; /* never used for another; 0 where the kernel does not tell */
};

/* Our own world, to tell another's from it. */
struct world {
    int proc_folder, own_fds, root_folder; /* descriptors of /proc, /proc/self/fd and / */
    uint64_t proc, sys;       /* devices */
    struct stamp root, users, mounts;
};

extern struct world world;

int look_at(int folder, const char *path, int flags, struct sight *sight);
int look_through(int fd, struct sight *sight);
int look_of(pid_t tid, const char *name, struct sight *sight); /* what its /proc/TID/NAME leads to */
bool is_skipped(const struct sight *sight);                    /* files of /proc and /sys are no one's writing */

int open_base(pid_t tid, int dirfd); /* a new descriptor of the folder that its paths are relative to, or -1 */
int open_root(pid_t tid);
int path_of_base(pid_t tid, int dirfd, struct target *target); /* of that folder, as /proc has it; may be WALK */

int join(struct target *target, const char *name);
int path_of_folder(int folder, struct target *target); /* may be VANISHED or WALK */
int path_of(int fd, const struct sight *sight, struct target *target); /* may be VANISHED */
bool leads_to(const char *path, const struct sight *sight); /* whether we see under this path what the thread sees */

/* --------------------------------------------------------------------------------------------------- walk.c */

int by_walking(pid_t tid, int dirfd, const char *text, int how, bool same_mounts, struct target *target);

#endif
