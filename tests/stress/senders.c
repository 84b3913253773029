/* The sender threads under whatever a process may do with them: deliveries at the same time from
 * several threads, forks meanwhile, clients that take nothing and clients that are gone. It is to be
 * run under ThreadSanitizer, and without it with forks, for which that has no eyes: it ends a child
 * that makes threads. Exits with 0 if every delivery has reached whom it should.
 *
 * usage: senders ROUNDS [forks]
 */
#include "../../pushdemo/push/deliver/senders.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLIENTS = 700, CALLERS = 3, SENDERS = 4, BLOCKED = 17, GONE = 19 };

static int rounds;

static void
fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    _exit(1);
}

/* One caller's clients: each BLOCKEDth takes nothing, each GONEth has gone. */
struct crowd {
    int ours[CLIENTS], theirs[CLIENTS];
};

static void
gather(struct crowd *crowd)
{
    static char filling[65536];
    for (int i = 0; i < CLIENTS; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
            fail("no sockets: raise the limit of open files");
        fcntl(pair[0], F_SETFL, O_NONBLOCK);
        crowd->ours[i] = pair[0];
        crowd->theirs[i] = pair[1];
        if (i % GONE == 0)
            close(pair[1]);
        else if (i % BLOCKED == 0)
            while (send(pair[0], filling, sizeof filling, MSG_NOSIGNAL) > 0)
                ;
    }
}

static void
check(const struct crowd *crowd, const char *data, size_t size, int senders, int backwards)
{
    struct delivery delivery = {(const char *)crowd->ours, 1, CLIENTS, backwards, data, size};
    struct shortfall *found = calloc(shortfalls_of(&delivery, senders) + 1, sizeof *found);
    ptrdiff_t count = deliver(&delivery, senders, found);
    char seen[CLIENTS] = {0}, got[64];
    for (ptrdiff_t i = 0; i < count; i++) {
        if (found[i].index < 1 || found[i].index >= CLIENTS || seen[found[i].index]++)
            fail("a client is named that should not be");
        if (found[i].sent != (found[i].index % GONE == 0 ? -1 : 0))
            fail("a client is said to have taken what it has not");
    }
    for (int i = 1; i < CLIENTS; i++) {
        int in_vain = i % GONE == 0 || i % BLOCKED == 0;
        if (seen[i] != in_vain)
            fail("a client is forgotten");
        if (!in_vain && (recv(crowd->theirs[i], got, sizeof got, 0) != (ssize_t)size ||
                         memcmp(got, data, size) != 0))
            fail("a client was sent something else");
    }
    free(found);
}

static void *
call(void *number)
{
    struct crowd *crowd = malloc(sizeof *crowd);
    gather(crowd);
    for (int round = 0; round < rounds; round++) {
        char data[64];
        int size = snprintf(data, sizeof data, "caller %d round %d", *(int *)number, round);
        check(crowd, data, (size_t)size, 1 + round % SENDERS, round % 2);
    }
    free(crowd);
    return NULL;
}

/* A child has no other threads, and makes its own. */
static void *
call_children(void *unused)
{
    (void)unused;
    for (int round = 0; round < 1 + rounds / 20; round++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            struct crowd *crowd = malloc(sizeof *crowd);
            for (int fd = 3; fd < 60000; fd++)
                close(fd);
            gather(crowd);
            check(crowd, "child", 5, SENDERS, 0);
            check(crowd, "again", 5, SENDERS, 1);
            _exit(0);
        }
        if (waitpid(child, &status, 0) != child || status != 0)
            fail("a child has failed");
    }
    return NULL;
}

int
main(int count, char **arguments)
{
    pthread_t callers[CALLERS], children;
    int numbers[CALLERS];
    rounds = count > 1 ? atoi(arguments[1]) : 100;
    alarm(300);
    for (int i = 0; i < CALLERS; i++) {
        numbers[i] = i;
        pthread_create(&callers[i], NULL, call, &numbers[i]);
    }
    if (count > 2)
        pthread_create(&children, NULL, call_children, NULL);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i], NULL);
    if (count > 2)
        pthread_join(children, NULL);
    return 0;
}
