/* What sockets.py does in Python where there is no compiler: the calls that are made for many
 * sockets at a time, with the interpreter's lock let go once for all of them.
 *
 * Between two calls that let it go, any other thread may take the lock and keep it for five
 * milliseconds; beside one that computes, ten thousand sends in Python take seconds. Here there is
 * one such moment for each event, however many clients it has.
 *
 * Nothing here decides anything: who is slow, gone or one too many is for Python to say.
 */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE /* accept4 */
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* where it is missing: Python ignores SIGPIPE as it is */
#endif

/* One client that did not take all. */
struct shortfall {
    Py_ssize_t index;
    Py_ssize_t sent; /* bytes; -1: it is gone */
};

static PyObject *
list_of(const struct shortfall *found, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    if (list == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = Py_BuildValue("nn", found[i].index, found[i].sent);
        if (pair == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, i, pair);
    }
    return list;
}

/* Returns how many took less than all of it, or -1 when there is no memory to note them in. */
static Py_ssize_t
send_each(const int *fds, Py_ssize_t start, Py_ssize_t stop, int backwards, const char *data,
          Py_ssize_t size, struct shortfall **found)
{
    Py_ssize_t count = 0, room = 0;
    for (Py_ssize_t i = start; i < stop; i++) {
        Py_ssize_t index = backwards ? start + stop - 1 - i : i;
        ssize_t sent;
        do
            sent = send(fds[index], data, (size_t)size, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent == size)
            continue;
        if (count == room) {
            room = room ? 2 * room : 64;
            struct shortfall *more = realloc(*found, (size_t)room * sizeof *more);
            if (more == NULL)
                return -1;
            *found = more;
        }
        if (sent < 0)
            sent = errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
        (*found)[count++] = (struct shortfall){index, sent};
    }
    return count;
}

PyDoc_STRVAR(send_to_all_doc,
"send_to_all(fds, start, stop, data, backwards)\n--\n\n"
"Send `data` to each of the non-blocking sockets fds[start:stop], an array of C ints.\n"
"Returns [(index, bytes sent)] of those that did not take all of it; -1 for one that is gone.");

static PyObject *
send_to_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer fds, data;
    Py_ssize_t start, stop, count;
    int backwards;
    struct shortfall *found = NULL;
    PyObject *list = NULL;

    if (!PyArg_ParseTuple(args, "y*nny*p", &fds, &start, &stop, &data, &backwards))
        return NULL;
    if (start < 0 || stop > fds.len / (Py_ssize_t)sizeof(int)) {
        PyErr_SetString(PyExc_IndexError, "there are not that many sockets");
        goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    count = send_each(fds.buf, start, stop, backwards, data.buf, data.len, &found);
    Py_END_ALLOW_THREADS
    list = count < 0 ? PyErr_NoMemory() : list_of(found, count);
end:
    free(found);
    PyBuffer_Release(&fds);
    PyBuffer_Release(&data);
    return list;
}

/* One connection, and what it has said so far. */
struct arrival {
    int fd;
    ssize_t size; /* bytes; 0: it has ended; -1: nothing yet */
    char *data;
};

static int
accept_one(int listener)
{
#ifdef SOCK_NONBLOCK
    return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    int fd = accept(listener, NULL, NULL);
    if (fd >= 0 && (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ||
                    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)) {
        close(fd);
        errno = ECONNABORTED;
        return -1;
    }
    return fd;
#endif
}

/* Returns how many have been accepted; `*error` is why there was not another, 0 for no reason. */
static Py_ssize_t
accept_each(int listener, Py_ssize_t most, int highest, char *buffer, size_t size,
            struct arrival *arrivals, int *error)
{
    Py_ssize_t count = 0;
    *error = 0;
    for (Py_ssize_t tries = 0; tries < most; tries++) {
        struct arrival *arrival = &arrivals[count];
        arrival->fd = accept_one(listener);
        if (arrival->fd < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return count;
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                *error = errno;
                return count;
            }
            continue; /* that client has left already */
        }
        do
            arrival->size = recv(arrival->fd, buffer, size, 0);
        while (arrival->size < 0 && errno == EINTR);
        arrival->data = NULL;
        if (arrival->size > 0) {
            arrival->data = malloc((size_t)arrival->size);
            if (arrival->data == NULL) {
                close(arrival->fd);
                *error = ENOMEM;
                return count;
            }
            memcpy(arrival->data, buffer, (size_t)arrival->size);
        }
        else if (arrival->size < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            arrival->size = 0; /* a reset is an end, too */
        count++;
        if (arrival->fd >= highest)
            return count;
    }
    return count;
}

static PyObject *
pair_of(const struct arrival *arrival)
{
    if (arrival->size < 0)
        return Py_BuildValue("iO", arrival->fd, Py_None);
    return Py_BuildValue("iy#", arrival->fd, arrival->data ? arrival->data : "",
                         (Py_ssize_t)arrival->size);
}

PyDoc_STRVAR(accept_doc,
"accept(listener, most, size, highest)\n--\n\n"
"Accept at most `most` connections of a non-blocking listener, until there are no more or one\n"
"gets a descriptor of at least `highest`, and read at most `size` bytes of each.\n"
"Returns [(descriptor, bytes, or None for nothing yet)]: non-blocking, not inheritable.\n"
"Raises OSError when the first cannot be accepted for want of descriptors or memory.");

static PyObject *
accept_many(PyObject *Py_UNUSED(module), PyObject *args)
{
    int listener, highest, error = 0;
    Py_ssize_t most, size, count = 0;
    char *buffer = NULL;
    struct arrival *arrivals = NULL;
    PyObject *list = NULL;

    if (!PyArg_ParseTuple(args, "inni", &listener, &most, &size, &highest))
        return NULL;
    buffer = malloc((size_t)size);
    arrivals = calloc((size_t)most, sizeof *arrivals);
    if (buffer == NULL || arrivals == NULL) {
        PyErr_NoMemory();
        goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    count = accept_each(listener, most, highest, buffer, (size_t)size, arrivals, &error);
    Py_END_ALLOW_THREADS
    if (count == 0 && error != 0) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        goto end;
    }
    list = PyList_New(count);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        PyObject *pair = pair_of(&arrivals[i]);
        if (pair == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, pair);
    }
end:
    for (Py_ssize_t i = 0; i < count; i++) {
        free(arrivals[i].data);
        if (list == NULL)
            close(arrivals[i].fd);
    }
    free(arrivals);
    free(buffer);
    return list;
}

static PyMethodDef methods[] = {
    {"send_to_all", send_to_all, METH_VARARGS, send_to_all_doc},
    {"accept", accept_many, METH_VARARGS, accept_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pushdemo.push._sockets",
    .m_doc = "Calls for many sockets at a time; see pushdemo.push.sockets.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__sockets(void)
{
    return PyModuleDef_Init(&definition);
}
