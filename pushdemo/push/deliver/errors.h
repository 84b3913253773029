/* Which errors of a socket are nobody's fault. */
#ifndef PUSHDEMO_ERRORS_H
#define PUSHDEMO_ERRORS_H

#include <errno.h>

/* What a call fails with for want of memory in the kernel, which is no client's fault. */
static inline int
is_want_of_memory(int error)
{
    return error == ENOBUFS || error == ENOMEM;
}

/* What is tried again when the socket is ready. A client is not given up for want of memory. */
static inline int
is_temporary(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || is_want_of_memory(error);
}

#endif
