/* A DEALER or ROUTER by hand, over a plain TCP socket (ZMTP 3.0, RFC 23): a peer that holds none of our code. */
#ifndef ZMTP_H
#define ZMTP_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

typedef struct {
    const char *data;
    size_t size;
} frame_t;

/* A frame of a string literal, NULs inside and all. */
#define FRAME(literal) {literal, sizeof (literal) - 1}

static inline int tcp_connect (const char *endpoint)
{
    struct sockaddr_in address;
    memset (&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
    address.sin_port = htons ((uint16_t) atoi (strrchr (endpoint, ':') + 1));
    int fd = socket (AF_INET, SOCK_STREAM, 0);
    if (fd >= 0 && connect (fd, (struct sockaddr *) &address, sizeof address) != 0) {
        close (fd);
        return -1;
    }
    return fd;
}

/* The other side may have closed the connection already: then there is nobody to write to, and that is no failure. */
static inline void tcp_write (int fd, const void *data, size_t size)
{
    const char *next = (const char *) data;
    while (size > 0) {
        ssize_t written = send (fd, next, size, MSG_NOSIGNAL);
        if (written <= 0)
            return;
        next += written;
        size -= (size_t) written;
    }
}

/* Whether all of it came. */
static inline int tcp_read (int fd, void *data, size_t size)
{
    char *next = (char *) data;
    while (size > 0) {
        ssize_t got = recv (fd, next, size, 0);
        if (got <= 0)
            return 0;
        next += got;
        size -= (size_t) got;
    }
    return 1;
}

/* The next frame, at most `room` bytes of it: its flags, or -1 at the end of the connection. */
static inline int zmtp_read_frame (int fd, char *data, size_t room, size_t *size)
{
    unsigned char head[9];
    if (!tcp_read (fd, head, 2))
        return -1;
    uint64_t length = head[1];
    if (head[0] & 2) {
        if (!tcp_read (fd, head + 2, 7))
            return -1;
        length = 0;
        for (int i = 1; i < 9; i++)
            length = length << 8 | head[i];
    }
    if (length > room || !tcp_read (fd, data, (size_t) length))
        return -1;
    *size = (size_t) length;
    return head[0];
}

/* Shakes hands over a TCP connection as a DEALER or ROUTER: the connection, or -1, and then it is closed. */
static inline int zmtp_greet (int fd, const char *type)
{
    static const char ready[] = "\x04\x1a\x05READY\x0bSocket-Type\0\0\0\6";
    char greeting[64], other[256];
    size_t size;
    memset (greeting, 0, sizeof greeting);
    greeting[0] = '\xff';
    greeting[9] = '\x7f';
    greeting[10] = 3;
    memcpy (greeting + 12, "NULL", 4);
    if (fd < 0)
        return -1;
    tcp_write (fd, greeting, sizeof greeting);
    if (tcp_read (fd, other, 64)) {
        char command[sizeof ready - 1 + 6];
        memcpy (command, ready, sizeof ready - 1);
        memcpy (command + sizeof ready - 1, type, 6);
        command[1] = (char) (sizeof command - 2);
        tcp_write (fd, command, sizeof command);
        if (zmtp_read_frame (fd, other, sizeof other, &size) == 4)
            return fd;
    }
    close (fd);
    return -1;
}

/* A connected DEALER, or -1. */
static inline int zmtp_connect (const char *endpoint)
{
    return zmtp_greet (tcp_connect (endpoint), "DEALER");
}

static inline void zmtp_send (int fd, const frame_t *frames, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned char head[2] = {(unsigned char) (i + 1 < count), (unsigned char) frames[i].size};
        tcp_write (fd, head, 2);
        tcp_write (fd, frames[i].data, frames[i].size);
    }
}

/* Whether the next message has exactly these frames. NULL for `data` lets any frame pass. */
static inline int zmtp_expect (int fd, const frame_t *frames, size_t count)
{
    char data[4096];
    size_t size;
    int good = 1;
    for (size_t i = 0;; i++) {
        int flags = zmtp_read_frame (fd, data, sizeof data, &size);
        if (flags < 0)
            return 0;
        good = good && i < count;
        if (good && frames[i].data)
            good = size == frames[i].size && memcmp (data, frames[i].data, size) == 0;
        if (!(flags & 1))
            return good && i + 1 == count;
    }
}

#endif
