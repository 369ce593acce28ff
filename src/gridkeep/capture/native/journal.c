/* The journal: records as ../journal.py lays them out, each appended by one write before its call goes on. */
#include "shim.h"

#include <sys/mman.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the journal is little-endian");

struct head {
    uint32_t length; /* of the whole record */
    uint8_t op, count;
    uint16_t marks;
    uint32_t tid;
    uint64_t flags;
    int64_t time_ns;
} __attribute__((packed));

struct path_head {
    uint64_t dev, ino;
    int64_t size, mtime_ns, ctime_ns;
    uint32_t mode, length;
} __attribute__((packed));

/* Times beyond what 64 bits of nanoseconds hold (the year 2262; `touch -d` makes them) count as their end. */
int64_t nanoseconds(int64_t seconds, uint32_t rest)
{
    int64_t whole, sum;
    if (__builtin_mul_overflow(seconds, 1000000000, &whole) || __builtin_add_overflow(whole, rest, &sum))
        return seconds < 0 ? INT64_MIN : INT64_MAX;
    return sum;
}

bool same_file(const struct stamp *one, const struct stamp *other)
{
    return one->ino == other->ino && one->dev == other->dev;
}

static char *put(char *at, const void *data, size_t size)
{
    memcpy(at, data, size);
    return at + size;
}

bool journal_append(int journal, const struct record *record)
{
    static char buffer[sizeof(struct head) + 2 * (sizeof(struct path_head) + LONG_PATH)];
    char *at = buffer + sizeof(struct head);
    for (int i = 0; i < record->count; i++) {
        const struct target *target = record->targets[i];
        const struct stamp *stamp = &target->stamp;
        struct path_head path = {
            .dev = stamp->dev,
            .ino = stamp->ino,
            .size = stamp->size,
            .mtime_ns = stamp->mtime_ns,
            .ctime_ns = stamp->ctime_ns,
            .mode = stamp->mode,
            .length = (uint32_t)target->length,
        };
        at = put(at, &path, sizeof path);
        at = put(at, target->path, target->length);
    }
    size_t length = (size_t)(at - buffer);
    struct head head = {
        .length = (uint32_t)length,
        .op = (uint8_t)record->op,
        .count = (uint8_t)record->count,
        .marks = (uint16_t)record->marks,
        .tid = (uint32_t)record->tid,
        .flags = record->flags,
        .time_ns = record->time_ns,
    };
    put(buffer, &head, sizeof head);

    ssize_t written = write(journal, buffer, length);
    if (written == (ssize_t)length)
        return true;
    struct stat st;
    if (written > 0 && fstat(journal, &st) == 0) /* no half records in the middle */
        (void)!ftruncate(journal, st.st_size - written);
    return false;
}

void journal_mend(int journal)
{
    struct stat st;
    if (fstat(journal, &st) < 0 || st.st_size == 0)
        return;
    size_t size = (size_t)st.st_size, whole = 0;
    const char *data = mmap(NULL, size, PROT_READ, MAP_SHARED, journal, 0);
    if (data == MAP_FAILED)
        return;
    while (whole + sizeof(struct head) <= size) {
        uint32_t length;
        memcpy(&length, data + whole, sizeof length);
        if (length < sizeof(struct head) || length > size - whole)
            break;
        whole += length;
    }
    munmap((void *)data, size);
    if (whole < size)
        (void)!ftruncate(journal, (off_t)whole);
}
