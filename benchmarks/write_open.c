/* Opens a file for writing COUNT times and prints the nanoseconds that one took. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 10000;
    double start = now();
    for (int i = 0; i < count; i++)
        close(open("same", O_WRONLY | O_CREAT, 0644));
    printf("%.1f\n", (now() - start) / count);
    return 0;
}
