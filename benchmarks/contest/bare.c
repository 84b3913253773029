/* bare PORT INTERVAL SIZE: the floor, a server that does nothing but what the kernel must be asked
 * for: it accepts, reads a request without looking at it, answers with a head and the newest event,
 * and sends each event to all, in a loop.
 *
 * It has no clients that are slow, none that leave, and one format, so nobody could use it. What
 * another server costs beyond this is what it does for that.
 *
 * INTERVAL is in seconds, SIZE is the bytes of a value.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 256 };

static const char head[] = "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n"
                           "Cache-Control: no-store\r\nConnection: close\r\n\r\n";

/* By descriptor. asked: its request has come; from: where it goes on in an event that did not fit. */
static struct client {
    int asked, from;
} *clients;
static int *streams; /* those that have asked */
static int stream_count;
static int loop, listener;
static char *event;
static size_t event_size, value_size;
static int64_t number;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void compose(void)
{
    char *at = event + sprintf(event, "data: ");
    int size = sprintf(at, "~%lld %lld ", (long long)now(), (long long)++number);
    memset(at + size, 'x', value_size - size - 1);
    strcpy(at + value_size - 1, "~\n\n");
    event_size = at - event + value_size + 2;
}

static void watch(int fd, int what, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};
    if (epoll_ctl(loop, what, fd, &e))
        fail("epoll_ctl");
}

static void leave(int fd)
{
    for (int i = 0; i < stream_count; i++)
        if (streams[i] == fd)
            streams[i--] = streams[--stream_count];
    clients[fd] = (struct client){0, 0};
    close(fd);
}

/* Send data that ends with the event; returns 0 if the client has left. */
static int push(int fd, const char *data, size_t size)
{
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    if (sent == (ssize_t)size)
        return 1;
    if (sent < 0 && errno != EAGAIN)
        return 0;
    if (sent > 0) {
        clients[fd].from = event_size - (size - sent);
        watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    return 1;
}

/* Send more of the event to one whose buffer was full. One that has begun meanwhile is as long, and
 * has the same end. */
static void go_on(int fd)
{
    int from = clients[fd].from;
    clients[fd].from = 0;
    watch(fd, EPOLL_CTL_MOD, EPOLLIN);
    if (!push(fd, event + from, event_size - from))
        leave(fd);
}

static void publish(void)
{
    compose();
    for (int i = stream_count - 1; i >= 0; i--)
        if (!clients[streams[i]].from && !push(streams[i], event, event_size))
            leave(streams[i]);
}

static void listen_to(int fd)
{
    char request[4096];
    if (recv(fd, request, sizeof request, 0) <= 0) {
        leave(fd);
    } else if (!clients[fd].asked) {
        clients[fd].asked = 1;
        streams[stream_count++] = fd;
        memcpy(event - (sizeof head - 1), head, sizeof head - 1);
        if (!push(fd, event - (sizeof head - 1), sizeof head - 1 + event_size))
            leave(fd);
    }
}

static void take_in(void)
{
    int on = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int64_t interval = atof(argv[2]) * 1e9;
    value_size = atol(argv[3]);
    event = (char *)malloc(sizeof head + value_size + 16) + sizeof head; /* and room before it */
    clients = calloc(limit.rlim_cur, sizeof *clients);
    streams = calloc(limit.rlim_cur, sizeof *streams);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 65535))
        fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    loop = epoll_create1(0);
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    compose();
    printf("http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    int64_t due = now() + interval;
    for (;;) {
        struct epoll_event events[BATCH];
        int64_t left = due - now();
        int ready = epoll_wait(loop, events, BATCH, left > 0 ? (left + 999999) / 1000000 : 0);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                take_in();
            else if (events[i].events & EPOLLOUT)
                go_on(fd);
            else
                listen_to(fd);
        }
        if (now() >= due) {
            due += interval;
            publish();
        }
    }
}
