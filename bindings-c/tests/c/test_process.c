/* Processes: what they inherit, how they end with handles open and calls under way, and what thousands of handles leave. */
#include "hub.h"
#include <dirent.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *this_program;

/* ------------------------------------------------------------------------------------------- programs of their own */

static void on_interrupt (int number)
{
    (void) number;
}

static void say (const char *word)
{
    printf ("%s\n", word);
    fflush (stdout);
}

static void *ask_for_ever (void *argument)
{
    mdcli_t *client = (mdcli_t *) argument;
    for (;;) {
        mdmsg_t *request = text_message ("x");
        mdmsg_t *reply = mdcli_send (client, "mine", &request);
        mdmsg_destroy (&reply);
        mdmsg_destroy (&request);
    }
    return NULL;
}

static void *wait_for_ever (void *argument)
{
    mdmsg_t *request = text_message ("x");
    mdmsg_t *reply = mdcli_send ((mdcli_t *) argument, "nobody", &request);
    mdmsg_destroy (&reply);
    return NULL;
}

static void *exit_from_here (void *argument)
{
    (void) argument;
    exit (3);
}

static mdcli_t *late_client;

static void destroy_at_exit (void)
{
    mdcli_destroy (&late_client);
}

/* Opens one of each, has all of them busy, and ends the process in this way; its status is 3 but for a signal's. */
static int end_busy (mdbrk_t *hub, const char *way)
{
    static served_t mine;
    pthread_t threads[3];
    mdbrk_t *own = hub_start ();
    CHECK (own != NULL);
    serve_start (&mine, hub, "mine", "auto", echo);
    for (int n = 0; n < 2; n++)
        CHECK (pthread_create (&threads[n], NULL, ask_for_ever, patient_client (hub, "auto")) == 0);
    CHECK (pthread_create (&threads[2], NULL, wait_for_ever, patient_client (hub, "auto")) == 0);
    mdcli_async_t *async = patient_async_client (hub, "auto");
    mdwrk_async_t *several = mdwrk_async_new (mdbrk_endpoint (hub), "held", 0);
    for (int n = 0; n < 100; n++) {
        mdmsg_t *request = text_message ("x");
        CHECK (mdcli_async_send (async, "held", &request) > 0);
    }
    mdreq_t *held = mdwrk_async_recv (several, PATIENCE_MS);
    CHECK (held != NULL);
    late_client = patient_client (hub, "auto");
    be_connected (late_client);
    if (check_broken > 0)
        return 1;
    if (strcmp (way, "exit") == 0)
        exit (3);
    if (strcmp (way, "_exit") == 0)
        _exit (3);
    if (strcmp (way, "atexit") == 0) {
        CHECK (atexit (destroy_at_exit) == 0);
        return 3;
    }
    if (strcmp (way, "thread") == 0) {
        CHECK (pthread_create (&threads[0], NULL, exit_from_here, NULL) == 0);
        wait_for_ever (late_client);
    }
    if (strcmp (way, "signal") == 0)
        raise (SIGTERM);
    return 3;
}

/* How many entries a folder of this process has under /proc. */
static int entries (const char *folder)
{
    int count = 0;
    DIR *directory = opendir (folder);
    CHECK (directory != NULL);
    while (directory != NULL && readdir (directory) != NULL)
        count++;
    if (directory != NULL)
        closedir (directory);
    return count;
}

/* How many threads there are beside those of the tests: this one, and those that an instrument has. */
static int threads_at_first;

static void *say_who_it_is (void *folder)
{
    char text[64] = "";
    CHECK (readlink ("/proc/thread-self", text, sizeof text - 1) > 0);
    snprintf ((char *) folder, 80, "/proc/%s", text);
    return NULL;
}

/* An instrument may start its own thread with the first one of the program: so there is one before they are counted. */
static void count_threads_at_first (void)
{
    pthread_t thread;
    char folder[80] = "";
    CHECK (pthread_create (&thread, NULL, say_who_it_is, folder) == 0 && pthread_join (thread, NULL) == 0);
    /* The kernel lists a thread that was joined for a moment longer. */
    while (access (folder, F_OK) == 0)
        sched_yield ();
    threads_at_first = entries ("/proc/self/task");
}

/* Waits for the threads that have nothing left to do: what they hold until they end is no leak. The alarm ends a vain wait. */
static void be_alone (void)
{
    while (entries ("/proc/self/task") > threads_at_first)
        sched_yield ();
}

/* The main loop of a program that ends on Ctrl-C: its handler does nothing, and the call that waits says so. */
static int end_on_interrupt (const char *endpoint, const char *wait)
{
    struct sigaction action;
    memset (&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    /* Asks for what the kernel restarts to be restarted; our calls end all the same. */
    action.sa_flags = SA_RESTART;
    CHECK (sigaction (SIGINT, &action, NULL) == 0);
    mdcli_t *client = mdcli_new (endpoint, 0);
    mdcli_async_t *async = mdcli_async_new (endpoint, 0);
    mdwrk_t *worker = mdwrk_new (endpoint, "idle", 0);
    mdwrk_async_t *several = mdwrk_async_new (endpoint, "idle", 0);
    CHECK (mdcli_set_timeout (client, 3600000) == 0 && mdcli_async_set_timeout (async, 3600000) == 0);
    int cancelled = 0;
    say ("waiting");
    while (cancelled == 0) {
        mdmsg_t *request = text_message ("x"), *none = NULL;
        int64_t ticket = 0;
        if (strcmp (wait, "send") == 0) {
            CHECK (mdcli_send (client, "nobody", &request) == NULL);
            cancelled = mdcli_errno (client);
        }
        else if (strcmp (wait, "stream") == 0) {
            CHECK (mdcli_stream (client, "nobody", &request) == 0 && mdcli_next (client) == NULL);
            cancelled = mdcli_errno (client);
        }
        else if (strcmp (wait, "async_recv") == 0) {
            CHECK (mdcli_async_send (async, "nobody", &request) > 0);
            CHECK (mdcli_async_recv (async, &ticket, -1) == NULL);
            cancelled = mdcli_async_errno (async);
        }
        else if (strcmp (wait, "worker") == 0) {
            CHECK (mdwrk_recv (worker, &none) == NULL);
            cancelled = mdwrk_errno (worker);
        }
        else {
            CHECK (mdwrk_async_recv (several, -1) == NULL);
            cancelled = mdwrk_async_errno (several);
        }
        mdmsg_destroy (&request);
    }
    CHECK (cancelled == MD_ECANCELLED);
    mdcli_destroy (&client);
    mdcli_async_destroy (&async);
    mdwrk_destroy (&worker);
    mdwrk_async_destroy (&several);
    CHECK (md_handles () == 0);
    be_alone ();
    return check_broken == 0 ? 0 : 1;
}

/* Runs this program in a process of its own, its output readable at *output; the process. One that hangs is ended. */
static pid_t start (const char *role, const char *argument, const char *endpoint, FILE **output)
{
    int tell[2];
    CHECK (pipe (tell) == 0);
    pid_t pid = fork ();
    if (pid == 0) {
        dup2 (tell[1], 1);
        close (tell[0]);
        close (tell[1]);
        alarm (PATIENCE_MS / 1000);
        execl (this_program, this_program, role, argument, endpoint, (char *) NULL);
        _exit (127);
    }
    close (tell[1]);
    *output = fdopen (tell[0], "r");
    return pid;
}

static int status_of (pid_t pid)
{
    int status = -1;
    CHECK (waitpid (pid, &status, 0) == pid);
    return status;
}

/* ------------------------------------------------------------------------------------------------------------ tests */

static void a_process_ends_with_its_status_whatever_is_open_and_under_way (void)
{
    const char *ways[] = { "return", "exit", "_exit", "atexit", "thread", "signal" };
    for (size_t n = 0; n < sizeof ways / sizeof *ways; n++)
        /* A race between the end and the threads, so not once only. */
        for (int round = 0; round < 3; round++) {
            FILE *output = NULL;
            int status = status_of (start ("busy", ways[n], "", &output));
            fclose (output);
            if (strcmp (ways[n], "signal") == 0)
                CHECK (WIFSIGNALED (status) && WTERMSIG (status) == SIGTERM);
            else
                CHECK (WIFEXITED (status) && WEXITSTATUS (status) == 3);
        }
}

static void ctrl_c_ends_every_call_that_waits (void)
{
    const char *waits[] = { "send", "stream", "async_recv", "worker", "worker_async" };
    mdbrk_t *hub = hub_start ();
    for (size_t n = 0; n < sizeof waits / sizeof *waits; n++) {
        FILE *output = NULL;
        char line[16] = "";
        pid_t pid = start ("interrupt", waits[n], mdbrk_endpoint (hub), &output);
        CHECK (fgets (line, sizeof line, output) != NULL && strcmp (line, "waiting\n") == 0);
        /* Again and again: a signal that comes just before the call waits does not end it. */
        int status = -1;
        while (waitpid (pid, &status, WNOHANG) == 0) {
            struct timespec pause = { 0, 10000000 };
            kill (pid, SIGINT);
            nanosleep (&pause, NULL);
        }
        fclose (output);
        CHECK (WIFEXITED (status) && WEXITSTATUS (status) == 0);
    }
    mdbrk_destroy (&hub);
}

static int descriptors_of_what_is_executed (void)
{
    FILE *output = NULL;
    int count = -1;
    pid_t pid = start ("descriptors", "", "", &output);
    CHECK (fscanf (output, "%d", &count) == 1);
    fclose (output);
    CHECK (status_of (pid) == 0);
    return count;
}

static void what_is_executed_inherits_nothing (void)
{
    int before = descriptors_of_what_is_executed (), open_before = entries ("/proc/self/fd");
    mdbrk_t *hub = hub_start ();
    served_t served;
    serve_start (&served, hub, "echo", "auto", echo);
    mdcli_t *client = patient_client (hub, "auto");
    be_connected (client);
    mdcli_async_t *async = patient_async_client (hub, "auto");
    mdmsg_t *request = text_message ("x");
    int64_t ticket = 0;
    CHECK (mdcli_async_send (async, "echo", &request) > 0);
    mdmsg_t *reply = mdcli_async_recv (async, &ticket, PATIENCE_MS);
    CHECK (reply != NULL);
    mdmsg_destroy (&reply);
    CHECK (entries ("/proc/self/fd") > open_before);
    CHECK (descriptors_of_what_is_executed () == before);
    mdcli_async_destroy (&async);
    mdcli_destroy (&client);
    serve_stop (&served);
    mdbrk_destroy (&hub);
}

/* Under Valgrind a smaller number will do. */
static int rounds (void)
{
    const char *text = getenv ("MD_TEST_ROUNDS");
    return text != NULL ? atoi (text) : 500;
}

static void open_and_close (const char *endpoint, int count)
{
    for (int n = 0; n < count; n++) {
        mdcli_t *client = mdcli_new (endpoint, 0);
        be_connected (client);
        mdcli_destroy (&client);
        mdcli_async_t *async = mdcli_async_new (endpoint, 0);
        mdmsg_t *request = text_message ("nobody");
        int64_t ticket = 0;
        CHECK (mdcli_async_send (async, "mmi.service", &request) > 0);
        mdmsg_t *reply = mdcli_async_recv (async, &ticket, PATIENCE_MS);
        CHECK (reply != NULL);
        mdmsg_destroy (&reply);
        mdcli_async_destroy (&async);
        mdwrk_t *worker = mdwrk_new (endpoint, "mine", 0);
        CHECK (mdwrk_start (worker) == 0);
        mdwrk_destroy (&worker);
        mdwrk_async_t *several = mdwrk_async_new (endpoint, "mine", 0);
        CHECK (mdwrk_async_recv (several, 0) == NULL);
        mdwrk_async_destroy (&several);
        mdbrk_t *broker = hub_start ();
        mdbrk_destroy (&broker);
    }
}

static void open_at_once (const char *endpoint, int count)
{
    mdcli_t **clients = (mdcli_t **) calloc ((size_t) count, sizeof *clients);
    CHECK (clients != NULL);
    for (int n = 0; n < count; n++) {
        clients[n] = mdcli_new (endpoint, 0);
        be_connected (clients[n]);
    }
    for (int n = 0; n < count; n++)
        mdcli_destroy (&clients[n]);
    free (clients);
}

/* Runs in a process without the broker, whose descriptors come and go with its peers. */
static int give_back (const char *endpoint)
{
    int count = rounds ();
    open_and_close (endpoint, 10);
    open_at_once (endpoint, 100);
    int descriptors = entries ("/proc/self/fd"), threads = entries ("/proc/self/task");
    size_t least = (size_t) -1;
    /* The smallest of several figures: what an allocator keeps now and then shows in some, a leak in all. */
    for (int span = 0; span < 4; span++) {
        size_t before = mallinfo2 ().uordblks;
        open_and_close (endpoint, count / 4);
        open_at_once (endpoint, 100);
        size_t after = mallinfo2 ().uordblks, more = after > before ? after - before : 0;
        least = more < least ? more : least;
    }
    CHECK (entries ("/proc/self/fd") == descriptors);
    CHECK (entries ("/proc/self/task") == threads);
    CHECK (md_handles () == 0);
    if (least > 64 * (size_t) count / 4 + 4096) {
        fprintf (stderr, "%lu bytes are left of %d rounds\n", (unsigned long) least, count / 4);
        return 1;
    }
    be_alone ();
    return check_broken == 0 ? 0 : 1;
}

static void thousands_of_handles_give_back_what_they_hold (void)
{
    mdbrk_t *hub = hub_start ();
    FILE *output = NULL;
    CHECK (status_of (start ("give_back", "", mdbrk_endpoint (hub), &output)) == 0);
    fclose (output);
    mdbrk_destroy (&hub);
}

int main (int argc, char **argv)
{
    this_program = argv[0];
    count_threads_at_first ();
    if (argc == 4 && strcmp (argv[1], "busy") == 0)
        return end_busy (hub_start (), argv[2]);
    if (argc == 4 && strcmp (argv[1], "interrupt") == 0)
        return end_on_interrupt (argv[3], argv[2]);
    if (argc == 4 && strcmp (argv[1], "give_back") == 0)
        return give_back (argv[3]);
    if (argc == 4 && strcmp (argv[1], "descriptors") == 0)
        return printf ("%d\n", entries ("/proc/self/fd")) < 0;
    RUN (a_process_ends_with_its_status_whatever_is_open_and_under_way);
    RUN (ctrl_c_ends_every_call_that_waits);
    RUN (what_is_executed_inherits_nothing);
    RUN (thousands_of_handles_give_back_what_they_hold);
    return check_report ();
}
