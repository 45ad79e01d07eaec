/* A test is a function that promises something; CHECK notes what does not hold and goes on. */
#ifndef CHECK_H
#define CHECK_H

#include <majordomo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_broken;
static int check_passed;
static int check_failed;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf ("%s:%d: %s does not hold (%s: %s)\n", __FILE__, __LINE__, #condition, md_code (md_errno ()), \
                    md_errtext ()); \
            fflush (stdout); \
            check_broken++; \
        } \
    } while (0)

/* The last failure on this thread is `number`. */
#define CHECK_ERRNO(number) CHECK (md_errno () == (number))

#define RUN(test) \
    do { \
        check_broken = 0; \
        test (); \
        if (check_broken == 0) \
            check_passed++; \
        else { \
            check_failed++; \
            printf ("FAILED: %s\n", #test); \
            fflush (stdout); \
        } \
    } while (0)

/* Ends a test program: a handle that is left is a leak, and counts as a failed test. */
static inline int check_report (void)
{
    if (md_handles () == 0)
        check_passed++;
    else {
        check_failed++;
        printf ("FAILED: %lu handles have not been destroyed\n", (unsigned long) md_handles ());
    }
    printf ("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed != 0;
}

#endif
