/* Peers without our code: some that keep to the protocol, and some that do not. None of them can hurt the others. */
#include "hub.h"
#include "zmtp.h"

#define COUNT(frames) (sizeof (frames) / sizeof *(frames))
#define SEND(fd, ...) \
    do { \
        const frame_t frames_[] = {__VA_ARGS__}; \
        zmtp_send (fd, frames_, COUNT (frames_)); \
    } while (0)

/* The hub still answers somebody who behaves. */
static void check_that_echo_works (mdbrk_t *hub)
{
    mdcli_t *client = patient_client (hub, "0.1");
    mdmsg_t *request = text_message ("still there?");
    mdmsg_t *reply = mdcli_send (client, "echo", &request);
    CHECK (mdmsg_streq (reply, 0, "still there?") == 1);
    mdmsg_destroy (&reply);
    mdcli_destroy (&client);
}

static void a_client_typed_by_hand_is_served_in_both_versions (void)
{
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "echo", "0.2", echo);
    int fd = zmtp_connect (mdbrk_endpoint (hub));
    CHECK (fd >= 0);
    const frame_t first[] = {FRAME (""), FRAME ("MDPC01"), FRAME ("echo"), FRAME ("hello"), FRAME ("")};
    zmtp_send (fd, first, COUNT (first));
    CHECK (zmtp_expect (fd, first, COUNT (first)));
    SEND (fd, FRAME ("MDPC02"), FRAME ("\1"), FRAME ("echo"), FRAME ("again"));
    const frame_t second[] = {FRAME ("MDPC02"), FRAME ("\3"), FRAME ("echo"), FRAME ("again")};
    CHECK (zmtp_expect (fd, second, COUNT (second)));
    close (fd);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

static void a_worker_typed_by_hand_serves_our_client (void)
{
    mdbrk_t *hub = hub_start ();
    int fd = zmtp_connect (mdbrk_endpoint (hub));
    CHECK (fd >= 0);
    SEND (fd, FRAME (""), FRAME ("MDPW01"), FRAME ("\1"), FRAME ("by hand"));
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    mdmsg_t *request = text_message ("hello");
    int64_t ticket = 0;
    CHECK (mdcli_async_send (client, "by hand", &request) > 0);

    char address[256], skipped[256];
    size_t size = 0, address_size = 0;
    int command = 0;
    /* Heartbeats may come first. */
    while (command != 2) {
        CHECK (zmtp_read_frame (fd, skipped, sizeof skipped, &size) == 1 && size == 0);
        CHECK (zmtp_read_frame (fd, skipped, sizeof skipped, &size) == 1 && size == 6);
        if (zmtp_read_frame (fd, skipped, sizeof skipped, &size) < 0)
            break;
        command = skipped[0];
    }
    CHECK (command == 2);
    CHECK (zmtp_read_frame (fd, address, sizeof address, &address_size) == 1);
    CHECK (zmtp_read_frame (fd, skipped, sizeof skipped, &size) == 1 && size == 0);
    CHECK (zmtp_read_frame (fd, skipped, sizeof skipped, &size) == 0 && size == 5 && memcmp (skipped, "hello", 5) == 0);
    const frame_t reply[] = {FRAME (""), FRAME ("MDPW01"), FRAME ("\3"), {address, address_size}, FRAME (""),
                             FRAME ("by hand, too")};
    zmtp_send (fd, reply, COUNT (reply));
    mdmsg_t *answer = mdcli_async_recv (client, &ticket, PATIENCE_MS);
    CHECK (mdmsg_streq (answer, 0, "by hand, too") == 1);
    mdmsg_destroy (&answer);
    mdcli_async_destroy (&client);
    close (fd);
    mdbrk_destroy (&hub);
}

static void messages_that_are_none_hurt_nobody (void)
{
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "echo", "0.1", echo);
    int fd = zmtp_connect (mdbrk_endpoint (hub));
    CHECK (fd >= 0);
    SEND (fd, FRAME (""));
    SEND (fd, FRAME (""), FRAME (""));
    SEND (fd, FRAME (""), FRAME ("MDPC01"));
    SEND (fd, FRAME (""), FRAME ("MDPC01"), FRAME (""));
    SEND (fd, FRAME (""), FRAME ("MDPC01"), FRAME ("\0\xff"), FRAME ("x"));
    SEND (fd, FRAME (""), FRAME ("MDPC09"), FRAME ("echo"), FRAME ("x"));
    SEND (fd, FRAME ("MDPC02"));
    SEND (fd, FRAME ("MDPC02"), FRAME ("\1"));
    SEND (fd, FRAME ("MDPC02"), FRAME ("\7"), FRAME ("echo"), FRAME ("x"));
    SEND (fd, FRAME ("MDPC02"), FRAME (""), FRAME ("echo"), FRAME ("x"));
    SEND (fd, FRAME ("MDPC02"), FRAME ("\1\1"), FRAME ("echo"), FRAME ("x"));
    SEND (fd, FRAME (""), FRAME ("MDPC01"), FRAME ("mmi.service"));
    SEND (fd, FRAME (""), FRAME ("MDPC01"), FRAME ("mmi."), FRAME ("x"));
    SEND (fd, FRAME ("\xff\xff\xff"), FRAME ("\0"), FRAME ("MDPW01"));
    check_that_echo_works (hub);
    close (fd);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

static void workers_that_break_the_protocol_hurt_nobody (void)
{
    /* Each on a connection of its own, because each may be cut off. */
    static const frame_t messages[][7] = {
        {FRAME (""), FRAME ("MDPW01"), {NULL, 0}},
        {FRAME (""), FRAME ("MDPW01"), FRAME (""), {NULL, 0}},
        {FRAME (""), FRAME ("MDPW01"), FRAME ("\1"), {NULL, 0}},
        {FRAME (""), FRAME ("MDPW01"), FRAME ("\1"), FRAME (""), {NULL, 0}},
        {FRAME (""), FRAME ("MDPW01"), FRAME ("\1"), FRAME ("mmi.service"), {NULL, 0}},
        {FRAME (""), FRAME ("MDPW01"), FRAME ("\2"), FRAME ("a"), FRAME (""), FRAME ("x"), {NULL, 0}},
        {FRAME (""), FRAME ("MDPW01"), FRAME ("\3"), {NULL, 0}},
        {FRAME (""), FRAME ("MDPW01"), FRAME ("\3"), FRAME ("nobody"), FRAME (""), FRAME ("x"), {NULL, 0}},
        {FRAME (""), FRAME ("MDPW01"), FRAME ("\4"), {NULL, 0}},
        {FRAME (""), FRAME ("MDPW01"), FRAME ("\5"), {NULL, 0}},
        {FRAME (""), FRAME ("MDPW01"), FRAME ("\x7f"), {NULL, 0}},
        {FRAME ("MDPW02"), FRAME ("\1"), {NULL, 0}},
        {FRAME ("MDPW02"), FRAME ("\3"), FRAME ("nobody"), FRAME (""), FRAME ("x"), {NULL, 0}},
        {FRAME ("MDPW02"), FRAME ("\4"), FRAME ("nobody"), {NULL, 0}},
        {FRAME ("MDPW02"), FRAME ("\6"), {NULL, 0}},
    };
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "echo", "0.1", echo);
    for (size_t i = 0; i < COUNT (messages); i++) {
        size_t count = 0;
        while (messages[i][count].data)
            count++;
        int fd = zmtp_connect (mdbrk_endpoint (hub));
        CHECK (fd >= 0);
        zmtp_send (fd, messages[i], count);
        /* The same once more after a registration, and a second registration, which is not allowed either. */
        SEND (fd, FRAME (""), FRAME ("MDPW01"), FRAME ("\1"), FRAME ("other"));
        zmtp_send (fd, messages[i], count);
        SEND (fd, FRAME (""), FRAME ("MDPW01"), FRAME ("\1"), FRAME ("other"));
        close (fd);
    }
    check_that_echo_works (hub);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

static void bytes_that_are_not_even_zeromq_hurt_nobody (void)
{
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "echo", "0.1", echo);
    int open_ends[3];
    int fd = tcp_connect (mdbrk_endpoint (hub));
    tcp_write (fd, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 35);
    open_ends[0] = fd;
    fd = tcp_connect (mdbrk_endpoint (hub));
    tcp_write (fd, "\xff\0\0\0\0\0\0\0\1\x7f\3", 11);
    open_ends[1] = fd;
    /* A frame that claims to be larger than any memory. */
    fd = zmtp_connect (mdbrk_endpoint (hub));
    tcp_write (fd, "\2\x7f\xff\xff\xff\xff\xff\xff\xff x", 11);
    open_ends[2] = fd;
    check_that_echo_works (hub);
    for (size_t i = 0; i < COUNT (open_ends); i++)
        close (open_ends[i]);
    check_that_echo_works (hub);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

int main (void)
{
    RUN (a_client_typed_by_hand_is_served_in_both_versions);
    RUN (a_worker_typed_by_hand_serves_our_client);
    RUN (messages_that_are_none_hurt_nobody);
    RUN (workers_that_break_the_protocol_hurt_nobody);
    RUN (bytes_that_are_not_even_zeromq_hurt_nobody);
    return check_report ();
}
