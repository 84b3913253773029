/* crowd ADDRESS PORT CLIENTS SETTLE EVENTS REQUEST: clients of one stream, as many as are wanted,
 * all at once.
 *
 * One thread and one epoll. For each read it does a recv, a look at the clock and a memchr, so that
 * what is measured is the server; how much of its core it used is in what it says.
 *
 * An event is found by its value, whatever stands around it: `~NANOSECONDS NUMBER ...~`, the
 * nanoseconds those of the monotonic clock at which it was made. It has arrived when its second `~`
 * was read. In REQUEST, ###### is replaced by a number that no other client has, so that no two
 * requests are the same.
 *
 * It prints a line when all clients are connected, when all have an event, when all have the
 * SETTLE-th after that, and when all have the EVENTS-th after that one:
 *
 *     connected SECONDS
 *     first SECONDS            since the first connect
 *     begin BYTES CPU_SECONDS  received by all so far, and used by this process
 *     end BYTES CPU_SECONDS
 *
 * and then, in the machine's own byte order as 64-bit numbers: the count of first events, how long
 * after its own connect each client had its first, in nanoseconds; and the count of the arrivals
 * between begin and end, and for each: the event's number, and how long after its making it was
 * there. It ends when its standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    CHUNK = 256 * 1024,  /* bytes a read */
    BATCH = 256,         /* sockets looked after between two looks at what is ready */
    PORTS = 10000,       /* clients of one source address: Linux gives each 28,232 ports */
    STAMP = 48,          /* bytes: two numbers of up to 20 digits, and what is between them */
    CALLED = 64,         /* connects between two turns of the loop */
};

struct client {
    int fd;
    int asked;
    int stamped;   /* bytes of `stamp` that have come; -1 between two events, STAMP after them */
    char stamp[STAMP];
    int64_t began; /* its connect */
    int64_t first; /* its first event; 0 before that */
    int64_t made, number; /* of the event whose end is awaited */
    int64_t reached;      /* the number of the newest that it has whole; -1 for none */
};

struct arrival {
    int64_t number, took;
};

static struct client *clients;
static long count;
static int loop;
static const char *request;
static size_t request_size;
static char buffer[CHUNK];

static long with_first;           /* clients that have one */
static int64_t settle, wanted;    /* events */
static int64_t begin = INT64_MAX, end = INT64_MAX;
static long at_begin, at_end; /* clients that have come so far */
static int64_t received;
static struct arrival *arrivals;
static long arrived, room;
static int64_t began;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void say(const char *what)
{
    printf("%s %lld %.6f\n", what, (long long)received, cpu());
    fflush(stdout);
}

/* All have event `n` or a newer one: how far is the measurement? */
static void note(struct client *client, int64_t before, int64_t n)
{
    if (before < begin && begin <= n && ++at_begin == count)
        say("begin");
    if (before < end && end <= n && ++at_end == count)
        say("end");
    client->reached = n;
}

/* The last client has its first event. */
static void all_have_one(int64_t newest, int64_t t)
{
    printf("first %.6f\n", (t - began) / 1e9);
    fflush(stdout);
    for (long i = 0; i < count; i++)
        if (clients[i].reached > newest)
            newest = clients[i].reached;
    begin = newest + settle;
    end = begin + wanted;
}

static void arrive(struct client *client, int64_t t)
{
    int64_t n = client->number;
    if (!client->first) {
        client->first = t;
        if (++with_first == count)
            all_have_one(n, t);
    }
    if (n > begin && n <= end) {
        if (arrived == room) {
            room = room ? 2 * room : 65536;
            arrivals = realloc(arrivals, room * sizeof *arrivals);
            if (!arrivals)
                fail("memory");
        }
        arrivals[arrived].number = n;
        arrivals[arrived++].took = t - client->made;
    }
    if (n > client->reached)
        note(client, client->reached, n);
}

/* Look through what a client has read, for the ends of its events. */
static void look(struct client *client, const char *at, const char *to, int64_t t)
{
    while (at < to) {
        if (client->stamped >= 0 && client->stamped < STAMP) {
            char c = *at++;
            client->stamp[client->stamped++] = c;
            /* The second space ends it. */
            if (c == ' ' && memchr(client->stamp, ' ', client->stamped - 1)) {
                long long made, number;
                if (sscanf(client->stamp, "%lld %lld ", &made, &number) != 2) {
                    errno = EPROTO;
                    fail("an event's stamp");
                }
                client->made = made;
                client->number = number;
                client->stamped = STAMP;
                continue;
            }
            if (client->stamped == STAMP) {
                errno = EPROTO;
                fail("an event's stamp");
            }
            continue;
        }
        at = memchr(at, '~', to - at);
        if (!at)
            return;
        at++;
        if (client->stamped < 0) {
            client->stamped = 0;
            memset(client->stamp, 0, STAMP);
        } else {
            client->stamped = -1;
            arrive(client, t);
        }
    }
}

static void watch(struct client *client, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(loop, EPOLL_CTL_MOD, client->fd, &event))
        fail("epoll_ctl");
}

static void ask(struct client *client)
{
    char own[16 * 1024];
    long number = client - clients;
    memcpy(own, request, request_size);
    char *place = memmem(own, request_size, "######", 6);
    for (int digit = 5; place && digit >= 0; digit--, number /= 10)
        place[digit] = '0' + number % 10;
    if (send(client->fd, own, request_size, MSG_NOSIGNAL) != (ssize_t)request_size)
        fail("asking");
    client->asked = 1;
    watch(client, EPOLLIN);
}

static void serve(struct client *client)
{
    if (!client->asked) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if ((errno = error))
            fail("connect");
        ask(client);
        return;
    }
    ssize_t size = recv(client->fd, buffer, CHUNK, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0) {
        if (!size)
            errno = ECONNRESET;
        fail("a stream ended");
    }
    received += size;
    look(client, buffer, buffer + size, now());
}

static int turn(int timeout)
{
    struct epoll_event events[BATCH];
    int ready = epoll_wait(loop, events, BATCH, timeout);
    int over = 0;
    for (int i = 0; i < ready; i++) {
        if (events[i].data.ptr)
            serve(events[i].data.ptr);
        else
            over = 1;
    }
    return over;
}

static void join(struct client *client, const struct sockaddr_in *server, long number)
{
    int on = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0)
        fail("socket");
    if (number / PORTS) {
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + number / PORTS);
        setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(client->fd, (struct sockaddr *)&source, sizeof source))
            fail("bind");
    }
    client->stamped = -1;
    client->reached = -1;
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = client};
    client->began = now();
    if (connect(client->fd, (const struct sockaddr *)server, sizeof *server) && errno != EINPROGRESS)
        fail("connect");
    if (epoll_ctl(loop, EPOLL_CTL_ADD, client->fd, &event))
        fail("epoll_ctl");
}

static void put(int64_t number)
{
    fwrite(&number, sizeof number, 1, stdout);
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: crowd ADDRESS PORT CLIENTS SETTLE EVENTS REQUEST\n");
        return 2;
    }
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &server.sin_addr);
    count = atol(argv[3]);
    settle = atol(argv[4]);
    wanted = atol(argv[5]);
    request = argv[6];
    request_size = strlen(request);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    clients = calloc(count, sizeof *clients);
    loop = epoll_create1(0);
    if (!clients || loop < 0)
        fail("start");
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(loop, EPOLL_CTL_ADD, 0, &input))
        fail("standard input");

    began = now();
    for (long i = 0; i < count; i++) {
        join(&clients[i], &server, i);
        if (i % CALLED == CALLED - 1 && turn(0))
            return 1;
    }
    printf("connected %.6f\n", (now() - began) / 1e9);
    fflush(stdout);
    while (at_end < count)
        if (turn(-1))
            return 1;
    put(count);
    for (long i = 0; i < count; i++)
        put(clients[i].first - clients[i].began);
    put(arrived);
    fwrite(arrivals, sizeof *arrivals, arrived, stdout);
    fflush(stdout);
    return 0;
}
