/* Writes a file in the way that its first argument names: what no shell or Python does. Exits 0 if it could, 77 if the kernel
 * cannot. The other arguments are files in the current folder. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODE 0644
#define IS(name) (strcmp(how, name) == 0)

static char **names;

static int say(int fd)
{
	int good = fd >= 0 && write(fd, "new\n", 4) == 4;
	return close(fd) == 0 && good ? 0 : 1;
}

static int do_openat2(const char *name, int flags, int resolve, int folder)
{
	struct open_how how = { .flags = flags, .mode = flags & O_CREAT ? MODE : 0, .resolve = resolve };
	return syscall(SYS_openat2, folder, name, &how, sizeof how);
}

#ifdef __x86_64__
static long int80(long number, long a, long b, long c)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
	return result;
}
#endif

/* Open, truncate, rename and unlink by the 32-bit entry: names must lie below 4 GiB. */
static int do_int80(void)
{
#ifdef __x86_64__
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (low == MAP_FAILED)
		return 77;
	char *first = strcpy(low, names[0]), *second = strcpy(low + 2048, names[1]);
	long fd = int80(5, (long)first, O_CREAT | O_WRONLY, MODE);
	if (fd == -ENOSYS)
		return 77;
	if (say(fd) || int80(92, (long)first, 2, 0) || int80(38, (long)first, (long)second, 0))
		return 1;
	fd = int80(295, AT_FDCWD, (long)first, O_RDONLY);
	return fd == -ENOENT ? 0 : 1;
#else
	return 77;
#endif
}

static int do_mmap(void)
{
	int fd = open(names[0], O_RDWR | O_CREAT, MODE);
	if (fd < 0 || ftruncate(fd, 4096))
		return 1;
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return page == MAP_FAILED || strcpy(page, "new") != page;
}

static int do_tmpfile(int flags)
{
	char from[64];
	int fd = open(".", O_TMPFILE | O_RDWR, MODE);
	if (fd < 0 && errno == EOPNOTSUPP)
		return 77;
	if (write(fd, "new\n", 4) != 4)
		return 1;
	snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
	if (flags == AT_EMPTY_PATH)
		return linkat(fd, "", AT_FDCWD, names[0], flags) ? (errno == ENOENT ? 77 : 1) : 0;
	return linkat(AT_FDCWD, from, AT_FDCWD, names[0], flags) != 0;
}

static int do_vfork(void)
{
	int status;
	pid_t child = vfork();
	if (child == 0) {
		execl("/bin/sh", "sh", "-c", "echo new > \"$0\"", names[0], NULL);
		_exit(1);
	}
	return waitpid(child, &status, 0) != child || status;
}

static void *in_thread(void *how)
{
	char path[64], stat[512] = "", *state;
	if (strcmp(how, "leader-gone") == 0) {
		snprintf(path, sizeof path, "/proc/self/task/%d/stat", getpid());
		do {
			FILE *file = fopen(path, "r");
			if (!file || !fgets(stat, sizeof stat, file))
				_exit(1);
			fclose(file);
			state = strrchr(stat, ')') + 2;
		} while (*state != 'Z');
	} else if (unshare(CLONE_FS) || chdir("below"))
		_exit(1);
	if (say(open(names[0], O_CREAT | O_WRONLY, MODE)) || rename(names[0], names[1]))
		_exit(1);
	if (names[2])
		for (;;)
			pause();
	_exit(0);
}

static int do_thread(char *how)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, in_thread, how))
		return 1;
	pthread_exit(NULL);
}

static int do_seccomp(void)
{
	struct sock_filter steps[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sync, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof steps / sizeof *steps, steps };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		return 1;
	if (syscall(SYS_sync) != -1 || errno != EPERM)
		return 1;
	return say(open(names[0], O_CREAT | O_WRONLY, MODE));
}

/* Calls that fail by their own arguments. */
static int do_bad(void)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *end = page + 4096, longer[5000];
	munmap(end, 4096);
	memset(longer, 'x', sizeof longer);
	longer[sizeof longer - 1] = 0;
	memset(end - 8, 'x', 8);
	if (open((char *)1, O_CREAT | O_WRONLY, MODE) != -1 || errno != EFAULT)
		return 1;
	if (open(end - 8, O_CREAT | O_WRONLY, MODE) != -1 || errno != EFAULT)
		return 2;
	if (open(longer, O_CREAT | O_WRONLY, MODE) != -1 || errno != ENAMETOOLONG)
		return 3;
	if (syscall(SYS_openat2, AT_FDCWD, names[0], end - 8, sizeof(struct open_how)) != -1)
		return 4;
	if (syscall(SYS_openat2, AT_FDCWD, names[0], 1, sizeof(struct open_how)) != -1)
		return 5;
	if (rename(names[0], (char *)1) != -1 || open("", O_CREAT | O_WRONLY, MODE) != -1)
		return 6;
	/* A name that ends with its page is a good one. */
	char *last = end - strlen(names[0]) - 1;
	strcpy(last, names[0]);
	return say(open(last, O_CREAT | O_WRONLY, MODE));
}

static int do_openat2_all(void)
{
	int folder = open("below", O_RDONLY | O_DIRECTORY);
	int fd = do_openat2(names[0], O_CREAT | O_WRONLY, 0, AT_FDCWD);
	if (fd < 0 && errno == ENOSYS)
		return 77;
	if (say(fd))
		return 1;
	close(do_openat2(names[0], O_RDONLY, 0, AT_FDCWD));
	char absolute[512];
	snprintf(absolute, sizeof absolute, "/%s", names[0]);
	return say(do_openat2(absolute, O_CREAT | O_WRONLY, RESOLVE_IN_ROOT, folder));
}

int main(int count, char **words)
{
	if (count < 3)
		return 2;
	char *how = words[1];
	names = words + 2;
	if (IS("raw"))
		return say(syscall(SYS_openat, AT_FDCWD, names[0], O_CREAT | O_WRONLY, MODE));
	if (IS("creat"))
		return say(creat(names[0], MODE));
	if (IS("mknod"))
		return mknod(names[0], S_IFREG | MODE, 0) || mknod(names[1], S_IFIFO | MODE, 0);
	if (IS("openat2"))
		return do_openat2_all();
	if (IS("int80"))
		return do_int80();
	if (IS("io_uring")) {
		char parameters[512] = { 0 };
		if (syscall(425, 8, parameters) != -1 || errno != ENOSYS)
			return 1;
		return say(open(names[0], O_CREAT | O_WRONLY, MODE));
	}
	if (IS("mmap"))
		return do_mmap();
	if (IS("tmpfile"))
		return do_tmpfile(AT_SYMLINK_FOLLOW);
	if (IS("tmpfile-empty-path"))
		return do_tmpfile(AT_EMPTY_PATH);
	if (IS("exchange"))
		return syscall(SYS_renameat2, AT_FDCWD, names[0], AT_FDCWD, names[1], 2) ? (errno == EINVAL ? 77 : 1) : 0;
	if (IS("vfork"))
		return do_vfork();
	if (IS("leader-gone") || IS("own-folder"))
		return do_thread(how);
	if (IS("non-dumpable"))
		return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || say(open(names[0], O_CREAT | O_WRONLY, MODE));
	if (IS("seccomp"))
		return do_seccomp();
	if (IS("bad"))
		return do_bad();
	return 2;
}
