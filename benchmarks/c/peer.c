/* The programs of `cargo xtask bench` in C: the same options and lines of JSON as those of `majordomo-bench`.
 * Usage: peer client|worker|round-trip --endpoint ENDPOINT [--protocol P] [--size BYTES] [--outstanding N]
 *             [--warm-up SECONDS] [--seconds SECONDS] [--requests N] */
#include <majordomo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *SERVICE = "echo";

enum {
    /* Long enough that no request is ever sent twice, in milliseconds. */
    TIMEOUT = 60000,
    /* Further requests that a worker of MDPX holds ready, as those of the other languages do. */
    PREFETCH = 512,
    /* Round trips that are kept; a second has fewer. */
    MOST_TIMES = 10000000,
    /* So many replies are counted between two looks at the clock: the other languages look once for each batch. */
    LOOK = 64
};

typedef struct {
    const char *endpoint, *protocol;
    size_t size, outstanding;
    double warm_up, seconds;
    /* Send exactly so many requests instead, and count them all; 0 to go by time. */
    long requests;
} options_t;

/* Counts replies once the warm-up is over, for some seconds, or so many of them. */
typedef struct {
    double begin, end, last;
    long requests, sent, replies;
    int counts, unseen;
} meter_t;

static double now_seconds (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static meter_t meter_new (const options_t *options)
{
    meter_t meter = {0};
    meter.requests = options->requests;
    meter.counts = meter.requests > 0;
    meter.begin = now_seconds () + (meter.counts ? 0 : options->warm_up);
    meter.end = meter.begin + options->seconds;
    return meter;
}

/* Whether one more request is to be sent; it counts as sent then. */
static int meter_send (meter_t *meter)
{
    int wanted = meter->requests == 0 || meter->sent < meter->requests;
    meter->sent += wanted;
    return wanted;
}

/* A reply came; whether to go on. The clock is looked at with each look-th reply. */
static int meter_receive (meter_t *meter, int look)
{
    meter->replies += meter->counts;
    if (meter->requests > 0 ? meter->replies < meter->requests : ++meter->unseen < look)
        return 1;
    meter->unseen = 0;
    meter->last = now_seconds ();
    if (meter->requests > 0)
        return 0;
    if (!meter->counts && meter->last >= meter->begin) {
        meter->counts = 1;
        meter->begin = meter->last;
    }
    return meter->last < meter->end;
}

static void meter_report (const meter_t *meter, const char *more)
{
    double seconds = meter->last - meter->begin;
    printf ("{\"replies\":%ld,\"seconds\":%f,\"rate\":%f%s}\n", meter->replies, seconds, (double) meter->replies / seconds,
            more);
    fflush (stdout);
}

static void ready (void)
{
    puts ("{\"ready\":true}");
    fflush (stdout);
}

static int failed (const char *what)
{
    fprintf (stderr, "peer: %s: %s\n", what, md_errtext ());
    return 1;
}

/* Keeps requests outstanding. */
static int client (const options_t *options, const char *body)
{
    mdcli_async_t *hub = mdcli_async_new (options->endpoint, 0);
    if (!hub || mdcli_async_set_protocol (hub, options->protocol) || mdcli_async_set_timeout (hub, TIMEOUT)
        || mdcli_async_set_max_in_flight (hub, options->outstanding))
        return failed ("client");
    meter_t meter = meter_new (options);
    for (size_t sent = 0; sent < options->outstanding && meter_send (&meter); sent++) {
        mdmsg_t *request = mdmsg_new_mem (body, options->size);
        if (mdcli_async_send (hub, SERVICE, &request) == -1)
            return failed ("send");
    }
    for (;;) {
        int64_t ticket = 0;
        mdmsg_t *reply = mdcli_async_recv (hub, &ticket, -1);
        if (!reply)
            return failed ("recv");
        mdmsg_destroy (&reply);
        if (!meter_receive (&meter, LOOK))
            break;
        if (!meter_send (&meter))
            continue;
        mdmsg_t *request = mdmsg_new_mem (body, options->size);
        if (mdcli_async_send (hub, SERVICE, &request) == -1)
            return failed ("send");
    }
    meter_report (&meter, "");
    mdcli_async_destroy (&hub);
    return 0;
}

static int worker (const options_t *options)
{
    mdwrk_t *serving = mdwrk_new (options->endpoint, SERVICE, 0);
    if (!serving || mdwrk_set_protocol (serving, options->protocol) || mdwrk_set_prefetch (serving, PREFETCH)
        || mdwrk_start (serving))
        return failed ("worker");
    ready ();
    mdmsg_t *message = NULL;
    while ((message = mdwrk_recv (serving, &message)) != NULL) {
        /* What came goes back. */
    }
    return failed ("worker");
}

static int compare_times (const void *left, const void *right)
{
    double a = *(const double *) left, b = *(const double *) right;
    return (a > b) - (a < b);
}

/* One request at a time. */
static int round_trip (const options_t *options, const char *body)
{
    mdcli_t *hub = mdcli_new (options->endpoint, 0);
    if (!hub || mdcli_set_protocol (hub, options->protocol) || mdcli_set_timeout (hub, TIMEOUT))
        return failed ("client");
    double *times = malloc (MOST_TIMES * sizeof *times);
    if (!times)
        return 1;
    size_t count = 0;
    meter_t meter = meter_new (options);
    for (int going = 1; going;) {
        double begin = now_seconds ();
        mdmsg_t *request = mdmsg_new_mem (body, options->size);
        mdmsg_t *reply = mdcli_send (hub, SERVICE, &request);
        if (!reply)
            return failed ("request");
        mdmsg_destroy (&reply);
        if (meter.counts && count < MOST_TIMES)
            times[count++] = now_seconds () - begin;
        going = meter_receive (&meter, 1);
    }
    if (count == 0)
        return failed ("no round trip");
    qsort (times, count, sizeof *times, compare_times);
    char more[128];
    snprintf (more, sizeof more, ",\"median_us\":%f,\"p99_us\":%f", times[(count - 1) / 2] * 1e6,
              times[(count - 1) * 99 / 100] * 1e6);
    meter_report (&meter, more);
    free (times);
    mdcli_destroy (&hub);
    return 0;
}

int main (int argc, char *argv[])
{
    options_t options = {NULL, "0.1", 11, 1000, 0.5, 1.0, 0};
    for (int index = 2; index + 1 < argc; index += 2) {
        const char *name = argv[index], *value = argv[index + 1];
        if (!strcmp (name, "--endpoint"))
            options.endpoint = value;
        else if (!strcmp (name, "--protocol"))
            options.protocol = value;
        else if (!strcmp (name, "--size"))
            options.size = (size_t) atol (value);
        else if (!strcmp (name, "--outstanding"))
            options.outstanding = (size_t) atol (value);
        else if (!strcmp (name, "--warm-up"))
            options.warm_up = atof (value);
        else if (!strcmp (name, "--seconds"))
            options.seconds = atof (value);
        else if (!strcmp (name, "--requests"))
            options.requests = atol (value);
    }
    const char *role = argc > 1 ? argv[1] : "";
    char *body = malloc (options.size + 1);
    if (!options.endpoint || !body) {
        fprintf (stderr, "usage: peer client|worker|round-trip --endpoint ENDPOINT\n");
        return 2;
    }
    memset (body, 'x', options.size);
    int status = 2;
    if (!strcmp (role, "client"))
        status = client (&options, body);
    else if (!strcmp (role, "worker"))
        status = worker (&options);
    else if (!strcmp (role, "round-trip"))
        status = round_trip (&options, body);
    free (body);
    return status;
}
