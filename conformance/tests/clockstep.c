/* Preloaded into a broker: the wall clock jumps by an hour as soon as the file $CLOCKSTEP exists. The monotonic clock does not. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t step (void)
{
    const char *file = getenv ("CLOCKSTEP");
    return file && access (file, F_OK) == 0 ? 3600 : 0;
}

int clock_gettime (clockid_t id, struct timespec *now)
{
    int rc = (int) syscall (SYS_clock_gettime, id, now);
    if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += step ();
    return rc;
}

int gettimeofday (struct timeval *restrict now, void *restrict zone)
{
    int rc = (int) syscall (SYS_gettimeofday, now, zone);
    if (rc == 0)
        now->tv_sec += step ();
    return rc;
}

time_t time (time_t *out)
{
    struct timespec now;
    clock_gettime (CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
