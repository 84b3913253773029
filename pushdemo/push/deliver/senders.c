/* See senders.h.
 *
 * The threads are made by the first delivery that wants them, and kept: they wait for the next. Who
 * is sent to by which thread is not settled beforehand. Each takes the next few sockets until there
 * are none, so that a thread that gets no processor holds up no more than these. What a thread finds
 * is its own until all have finished, so that nothing is shared but the number of the next socket.
 */
#include "senders.h"

#include "errors.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* where it is missing: Python ignores SIGPIPE as it is */
#endif

/* Sockets that a thread takes at a time: half a millisecond's work. */
#define SOME 64

/* All of it but `next` and the shares' counts is written with the lock only. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t wanted, finished;
    int threads;   /* that there are */
    int at_work;   /* whether there is a delivery */
    int places;    /* for threads that are still to take part in it */
    int running;   /* threads that take part, or may still */
    const struct delivery *delivery;
    struct shortfall *found;
    atomic_ptrdiff_t next; /* how many sockets were taken */
    ptrdiff_t counts[MOST_SENDERS];
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .wanted = PTHREAD_COND_INITIALIZER,
          .finished = PTHREAD_COND_INITIALIZER};

static ptrdiff_t
send_one(const struct delivery *d, ptrdiff_t index)
{
    ssize_t sent;
    int fd;
    memcpy(&fd, d->fds + index * (ptrdiff_t)sizeof fd, sizeof fd);
    do
        sent = send(fd, d->data, d->size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 && is_temporary(errno) ? 0 : sent;
}

/* The sockets from the number `from` to `to` in the order in which they are sent to. */
static ptrdiff_t
send_some(const struct delivery *d, ptrdiff_t from, ptrdiff_t to, struct shortfall *found)
{
    ptrdiff_t count = 0;
    for (ptrdiff_t number = from; number < to; number++) {
        ptrdiff_t index = d->backwards ? d->stop - 1 - number : d->start + number;
        ptrdiff_t sent = send_one(d, index);
        if (sent < 0 || (size_t)sent != d->size)
            found[count++] = (struct shortfall){index, sent};
    }
    return count;
}

/* What the thread in a place does of a delivery. */
static void
take_part(const struct delivery *d, int place, struct shortfall *found)
{
    ptrdiff_t all = d->stop - d->start, count = 0, from;
    found += place * all;
    while ((from = atomic_fetch_add_explicit(&pool.next, SOME, memory_order_relaxed)) < all)
        count += send_some(d, from, all - from < SOME ? all : from + SOME, found + count);
    pool.counts[place] = count;
}

static void *
run(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.places == 0)
            pthread_cond_wait(&pool.wanted, &pool.lock);
        int place = pool.places--;
        const struct delivery *delivery = pool.delivery;
        struct shortfall *found = pool.found;
        pthread_mutex_unlock(&pool.lock);
        take_part(delivery, place, found);
        pthread_mutex_lock(&pool.lock);
        if (--pool.running == 0)
            pthread_cond_signal(&pool.finished);
    }
    return NULL;
}

/* In a process that was forked: the threads are not there, and nobody holds the lock. */
static void
forget(void)
{
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wanted, NULL);
    pthread_cond_init(&pool.finished, NULL);
    pool.threads = pool.at_work = pool.places = pool.running = 0;
}

/* With the lock: so many threads, or as many as the system has. */
static void
have_threads(int wanted)
{
    static int told;
    sigset_t all, before;
    if (pool.threads >= wanted)
        return;
    if (!told) {
        if (pthread_atfork(NULL, NULL, forget) != 0)
            return;
        told = 1;
    }
    /* A signal is for a thread of Python's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.threads < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run, NULL) != 0)
            break;
        pthread_detach(thread);
        pool.threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Whether the others were there to be had. */
static int
deliver_together(const struct delivery *delivery, int others, struct shortfall *found)
{
    pthread_mutex_lock(&pool.lock);
    if (!pool.at_work)
        have_threads(others);
    if (pool.at_work || pool.threads == 0) {
        pthread_mutex_unlock(&pool.lock);
        return 0;
    }
    if (others > pool.threads)
        others = pool.threads;
    pool.at_work = 1;
    pool.places = pool.running = others;
    pool.delivery = delivery;
    pool.found = found;
    memset(pool.counts, 0, sizeof pool.counts);
    atomic_store_explicit(&pool.next, 0, memory_order_relaxed);
    pthread_cond_broadcast(&pool.wanted);
    pthread_mutex_unlock(&pool.lock);

    take_part(delivery, 0, found);

    pthread_mutex_lock(&pool.lock);
    /* Who has not come by now has nothing left to do. */
    pool.running -= pool.places;
    pool.places = 0;
    while (pool.running > 0)
        pthread_cond_wait(&pool.finished, &pool.lock);
    return 1; /* with the lock */
}

size_t
shortfalls_of(const struct delivery *delivery, int senders)
{
    return (size_t)(delivery->stop - delivery->start) * (size_t)(senders > 1 ? senders : 1);
}

ptrdiff_t
deliver(const struct delivery *delivery, int senders, struct shortfall *found)
{
    ptrdiff_t all = delivery->stop - delivery->start, count;
    if (senders > MOST_SENDERS)
        senders = MOST_SENDERS;
    if (senders < 2 || !deliver_together(delivery, senders - 1, found))
        return send_some(delivery, 0, all, found);
    count = pool.counts[0];
    for (int place = 1; place < senders; place++) {
        ptrdiff_t more = pool.counts[place];
        memmove(found + count, found + place * all, (size_t)more * sizeof *found);
        count += more;
    }
    pool.at_work = 0;
    pthread_mutex_unlock(&pool.lock);
    return count;
}
