/* The same bytes to many sockets, by several threads. Nothing in here knows of Python. */
#ifndef PUSHDEMO_SENDERS_H
#define PUSHDEMO_SENDERS_H

#include <stddef.h>

#define MOST_SENDERS 8

/* One client that did not take all. */
struct shortfall {
    ptrdiff_t index;
    ptrdiff_t sent; /* bytes; -1: it is gone */
};

/* What is to be sent, and to whom: the sockets start to stop of `fds`, which are C ints and need not
 * be aligned. */
struct delivery {
    const char *fds;
    ptrdiff_t start, stop;
    int backwards; /* begin with the last */
    const char *data;
    size_t size;
};

/* How many there are room for in what `deliver` is given. */
size_t shortfalls_of(const struct delivery *delivery, int senders);

/* Sends by at most `senders` threads, of which the caller's is one; by that alone where there are no
 * others, or they are at work for another caller. `found` has room for shortfalls_of(…).
 * Returns how many took less than all of it: they are the first of `found`, in no order. */
ptrdiff_t deliver(const struct delivery *delivery, int senders, struct shortfall *found);

#endif
