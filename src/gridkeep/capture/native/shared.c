/* The memory that shim, guard and supervisor share: counters in the first page, receive buffers in the second. */
#include "shim.h"

#include <sys/mman.h>

const char *const counter_names[COUNTERS] = {"notices",  "answered", "records",  "lost", "late", "unreadable",
                                             "io_uring", "watchdog", "guard"};

/* The first page. The supervisor reads the counters; what follows them is between shim and guard. */
struct page {
    uint64_t counters[COUNTERS];
    uint64_t beats, hurried;
    uint32_t phase, parted;
};

static struct page *page;
static struct seccomp_notif *seats;

int shared_map(int folder)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    int fd = openat(folder, "shared", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int error = posix_fallocate(fd, 0, 2 * (off_t)size); /* a page that finds no space later kills who writes to it */
    char *memory = error ? MAP_FAILED : mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!error && memory == MAP_FAILED)
        error = errno;
    close(fd);
    if (memory == MAP_FAILED)
        return error;
    page = (struct page *)memory;
    seats = (struct seccomp_notif *)(memory + size);
    return 0;
}

void count(enum counter counter)
{
    __atomic_fetch_add(&page->counters[counter], 1, __ATOMIC_RELAXED);
}

uint64_t counted(enum counter counter)
{
    return __atomic_load_n(&page->counters[counter], __ATOMIC_ACQUIRE);
}

void set_phase(enum phase phase)
{
    __atomic_store_n(&page->phase, phase, __ATOMIC_RELEASE);
    __atomic_fetch_add(&page->beats, 1, __ATOMIC_RELEASE);
}

enum phase phase_now(void)
{
    return __atomic_load_n(&page->phase, __ATOMIC_ACQUIRE);
}

uint64_t beats(void)
{
    return __atomic_load_n(&page->beats, __ATOMIC_ACQUIRE);
}

void hurry(uint64_t id)
{
    __atomic_store_n(&page->hurried, id, __ATOMIC_RELEASE);
}

bool hurried(uint64_t id)
{
    return __atomic_load_n(&page->hurried, __ATOMIC_ACQUIRE) == id;
}

void part_ways(void)
{
    __atomic_store_n(&page->parted, 1, __ATOMIC_RELEASE);
}

bool parted(void)
{
    return __atomic_load_n(&page->parted, __ATOMIC_ACQUIRE);
}

struct seccomp_notif *seat(enum seat seat)
{
    return &seats[seat];
}
