/* churn ADDRESS PORT AT_ONCE SECONDS REQUEST: clients that come, read the first event of a stream, and
 * go, for so many seconds, AT_ONCE of them at a time.
 *
 * A client goes with a reset, so that its port is free at once. When a stream has not begun after a
 * second, or breaks off before its first event, that client has failed.
 *
 * It prints `churned CAME FAILED SECONDS`, and the milliseconds from a client's connect to its first
 * event: `first MEDIAN P99`.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 256, CHUNK = 64 * 1024, PATIENCE = 1000 /* ms */, SOURCES = 8 };

struct client {
    int fd, asked;
    int64_t began;
};

static struct client *clients;
static struct sockaddr_in server;
static const char *request;
static int loop;
static long came, failed, begun;
static float *took;
static long room;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "churn: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void come(struct client *client)
{
    int on = 1;
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct sockaddr_in source = {.sin_family = AF_INET};
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0)
        fail("socket");
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 100 + begun++ % SOURCES);
    if (bind(client->fd, (struct sockaddr *)&source, sizeof source))
        fail("bind");
    client->asked = 0;
    client->began = now();
    if (connect(client->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
        fail("connect");
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = client};
    if (epoll_ctl(loop, EPOLL_CTL_ADD, client->fd, &event))
        fail("epoll_ctl");
}

static void go(struct client *client, int well)
{
    close(client->fd);
    if (!well)
        failed++;
    else {
        if (came == room) {
            room = room ? 2 * room : 65536;
            took = realloc(took, room * sizeof *took);
            if (!took)
                fail("memory");
        }
        took[came++] = (now() - client->began) / 1e6f;
    }
    come(client);
}

static void serve(struct client *client)
{
    static char buffer[CHUNK];
    if (!client->asked) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        client->asked = 1;
        if (send(client->fd, request, strlen(request), MSG_NOSIGNAL) < 0)
            go(client, 0);
        else
            epoll_ctl(loop, EPOLL_CTL_MOD, client->fd, &event);
        return;
    }
    ssize_t size = recv(client->fd, buffer, sizeof buffer, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0)
        go(client, 0);
    else if (memchr(buffer, '~', size)) /* of a value */
        go(client, 1);
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: churn ADDRESS PORT AT_ONCE SECONDS REQUEST\n");
        return 2;
    }
    server.sin_family = AF_INET;
    server.sin_port = htons(atoi(argv[2]));
    inet_pton(AF_INET, argv[1], &server.sin_addr);
    long count = atol(argv[3]);
    double seconds = atof(argv[4]);
    request = argv[5];
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    clients = calloc(count, sizeof *clients);
    loop = epoll_create1(0);
    if (!clients || loop < 0)
        fail("start");
    int64_t began = now(), looked = began, t;
    for (long i = 0; i < count; i++)
        come(&clients[i]);
    while ((t = now()) - began < seconds * 1e9) {
        struct epoll_event events[BATCH];
        int ready = epoll_wait(loop, events, BATCH, 100);
        for (int i = 0; i < ready; i++)
            serve(events[i].data.ptr);
        if (t - looked > 200000000) {
            looked = t;
            for (long i = 0; i < count; i++)
                if (t - clients[i].began > PATIENCE * INT64_C(1000000))
                    go(&clients[i], 0);
        }
    }
    printf("churned %ld %ld %.3f\n", came, failed, (t - began) / 1e9);
    qsort(took, came, sizeof *took, by_size);
    printf("first %.2f %.2f\n", came ? took[came / 2] : 0, came ? took[came * 99 / 100] : 0);
    return 0;
}
