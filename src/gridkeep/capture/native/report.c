/* started.json, exit.json and end.json: what the shim tells its supervisor, see ../session.py. */
#include "shim.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#define TRY_AGAIN_NS 500000000

/* One character of UTF-8, -1 for a byte that is none; `at` moves behind it. */
static int32_t next_character(const unsigned char **at)
{
    static const int32_t least[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *byte = *at;
    int more = *byte < 0x80 ? 0 : *byte >> 5 == 6 ? 1 : *byte >> 4 == 14 ? 2 : *byte >> 3 == 30 ? 3 : -1;
    *at = byte + 1;
    if (more < 0)
        return -1;
    int32_t value = more == 0 ? *byte : *byte & (0x3f >> more);
    for (int i = 1; i <= more; i++) {
        if (byte[i] >> 6 != 2)
            return -1;
        value = value << 6 | (byte[i] & 0x3f);
    }
    if (value < least[more] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
        return -1;
    *at = byte + 1 + more;
    return value;
}

/* Text of any bytes as a JSON string in ASCII; what is no UTF-8 becomes U+FFFD. */
static void put_string(FILE *out, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    fputc('"', out);
    while (*at) {
        int32_t value = next_character(&at);
        if (value < 0)
            value = 0xfffd;
        if (value == '"' || value == '\\')
            fprintf(out, "\\%c", value);
        else if (value >= ' ' && value < 0x7f)
            fputc(value, out);
        else if (value < 0x10000)
            fprintf(out, "\\u%04x", value);
        else
            fprintf(out, "\\u%04x\\u%04x", 0xd800 + ((value - 0x10000) >> 10), 0xdc00 + ((value - 0x10000) & 0x3ff));
    }
    fputc('"', out);
}

static void put_now(FILE *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    fprintf(out, "%lld.%06ld", (long long)now.tv_sec, now.tv_nsec / 1000);
}

static void put_mode(FILE *out, const struct report *report)
{
    fprintf(out, "\"mode\": \"%s\", \"why\": ", report->mode);
    put_string(out, report->why);
}

struct page {
    FILE *out;
    char *data;
    size_t size;
};

static bool open_page(struct page *page)
{
    page->out = open_memstream(&page->data, &page->size);
    return page->out != NULL;
}

static int close_page(struct page *page, const struct report *report, const char *name)
{
    int error = fclose(page->out) == 0 ? write_whole(report->folder, name, page->data, page->size) : errno;
    free(page->data);
    return error;
}

int report_started(const struct report *report)
{
    struct page page;
    if (!open_page(&page))
        return errno;
    fprintf(page.out, "{\"shim\": %d, \"script\": %d, \"at\": ", (int)report->shim, (int)report->script);
    put_now(page.out);
    fputs(", ", page.out);
    put_mode(page.out, report);
    fputc('}', page.out);
    return close_page(&page, report, "started.json");
}

static void put_number(FILE *out, const char *name, bool known, int value)
{
    if (known)
        fprintf(out, ", \"%s\": %d", name, value);
    else
        fprintf(out, ", \"%s\": null", name);
}

static int write_exit(const struct report *report, const int *status, const char *error)
{
    struct page page;
    if (!open_page(&page))
        return errno;
    fputs("{\"ended_at\": ", page.out);
    put_now(page.out);
    put_number(page.out, "exit_code", status && WIFEXITED(*status), status ? WEXITSTATUS(*status) : 0);
    put_number(page.out, "signal", status && WIFSIGNALED(*status), status ? WTERMSIG(*status) : 0);
    fputs(", \"error\": ", page.out);
    if (error)
        put_string(page.out, error);
    else
        fputs("null", page.out);
    fputc('}', page.out);
    return close_page(&page, report, "exit.json");
}

static int write_end(const struct report *report)
{
    struct page page;
    if (!open_page(&page))
        return errno;
    fputs("{\"finished_at\": ", page.out);
    put_now(page.out);
    fputs(", \"terminated\": [", page.out);
    for (size_t i = 0; i < report->terminated_count; i++) {
        fputs(i ? ", " : "", page.out);
        put_string(page.out, report->terminated[i]);
    }
    fputs("], ", page.out);
    put_mode(page.out, report);
    fputs(", \"counters\": {", page.out);
    for (enum counter c = 0; c < COUNTERS; c++)
        fprintf(page.out, "%s\"%s\": %llu", c ? ", " : "", counter_names[c], (unsigned long long)counted(c));
    fputs("}}", page.out);
    return close_page(&page, report, "end.json");
}

/* Whether a report that failed is to be tried again, however long the disk is full (the script may have filled it) or
 * fails: nobody else knows what is to be said. */
static bool insist(int error, const char *name)
{
    if (error == ENOSPC || error == EDQUOT || error == EIO) {
        nanosleep(&(struct timespec){.tv_nsec = TRY_AGAIN_NS}, NULL);
        return true;
    }
    if (error)
        fprintf(stderr, "%s: %s\n", name, strerror(error));
    return false;
}

bool hear_failure(struct report *report, char why[PATH_MAX])
{
    ssize_t length = 0;
    if (report->failure < 0)
        return false;
    do
        length = read(report->failure, why, PATH_MAX - 1);
    while (length < 0 && errno == EINTR);
    close(report->failure);
    report->failure = -1;
    if (length > 0)
        why[length] = 0;
    return length > 0;
}

void report_exit(const struct report *report, const int *status, const char *error)
{
    while (!exists(report->folder, "exit.json") && insist(write_exit(report, status, error), "exit.json"))
        ;
}

void report_end(const struct report *report)
{
    while (insist(write_end(report), "end.json"))
        ;
}
