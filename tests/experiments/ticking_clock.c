/* Preloaded into tests: every look at the calendar clock is a second later than the one before. What must not depend on
 * the second in which a test runs then fails at every run, not at one in forty. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec* now) {
    static int (*real)(clockid_t, struct timespec*);
    static atomic_long looks;
    if (!real) {
        real = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
    }
    const int result = real(clock, now);
    if (clock == CLOCK_REALTIME) {
        now->tv_sec += atomic_fetch_add(&looks, 1);
    }
    return result;
}

time_t time(time_t* seconds) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds) {
        *seconds = now.tv_sec;
    }
    return now.tv_sec;
}
