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

#include "errors.h"
#include "senders.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* Returns 0, or -1 with an exception. */
static int
get_descriptors(PyObject *object, Py_buffer *fds)
{
    if (PyObject_GetBuffer(object, fds, PyBUF_ND | PyBUF_FORMAT) < 0)
        return -1;
    if (fds->ndim == 1 && fds->format != NULL && strcmp(fds->format, "i") == 0)
        return 0;
    PyBuffer_Release(fds);
    PyErr_SetString(PyExc_TypeError, "the descriptors must be an array of C ints");
    return -1;
}

PyDoc_STRVAR(send_to_all_doc,
"send_to_all(fds, start, stop, data, backwards, senders)\n--\n\n"
"Send `data` to each of the non-blocking sockets fds[start:stop], an array of C ints, by at most\n"
"`senders` threads.\n"
"Returns [(index, bytes sent)] of those that did not take all of it; -1 for one that is gone.\n"
"Raises IndexError, TypeError and MemoryError before anything is sent.");

static PyObject *
send_to_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer fds, data;
    struct delivery delivery;
    Py_ssize_t start, stop, count;
    size_t room;
    int senders;
    PyObject *array;
    struct shortfall *found = NULL;
    PyObject *list = NULL;

    if (!PyArg_ParseTuple(args, "Onny*pi", &array, &start, &stop, &data,
                          &delivery.backwards, &senders))
        return NULL;
    if (get_descriptors(array, &fds) < 0) {
        PyBuffer_Release(&data);
        return NULL;
    }
    if (start < 0 || start > stop || stop > fds.len / (Py_ssize_t)sizeof(int)) {
        PyErr_SetString(PyExc_IndexError, "there are not that many sockets");
        goto end;
    }
    /* Room for all of them before the first send: once some clients have got the data, a failure
     * would leave their streams in an unknown state. Untouched pages cost nothing. */
    delivery.fds = fds.buf;
    delivery.start = start;
    delivery.stop = stop;
    delivery.data = data.buf;
    delivery.size = (size_t)data.len;
    if (senders > MOST_SENDERS)
        senders = MOST_SENDERS;
    room = shortfalls_of(&delivery, senders) + 1;
    if (room < SIZE_MAX / sizeof *found)
        found = malloc(room * sizeof *found);
    if (found == NULL) {
        PyErr_NoMemory();
        goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    count = deliver(&delivery, senders, found);
    Py_END_ALLOW_THREADS
    list = list_of(found, count);
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

/* What accept fails with that is not the connection's fault: want of descriptors or memory, or a
 * listener that is none. */
static int
is_fault_here(int error)
{
    return error == EMFILE || error == ENFILE || is_want_of_memory(error) || error == EBADF ||
           error == EINVAL || error == ENOTSOCK;
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
            if (is_fault_here(errno)) {
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
        else if (arrival->size < 0 && !is_temporary(errno))
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
"Raises OSError when the first cannot be accepted for want of descriptors or memory, or because\n"
"`listener` does not listen; ValueError when `most` or `size` is less than 1.");

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
    if (most < 1 || size < 1) {
        PyErr_SetString(PyExc_ValueError, "most and size must be at least 1");
        return NULL;
    }
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
    .m_name = "pushdemo.push.deliver._sockets",
    .m_doc = "Calls for many sockets at a time; see pushdemo.push.deliver.sockets.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__sockets(void)
{
    return PyModuleDef_Init(&definition);
}
