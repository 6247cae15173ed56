/* Makes one of a process's system calls that change files below a folder fail, or end the process.
 *
 * Loaded with LD_PRELOAD and armed by `faults_arm`. Calls are counted from then on; reading is let alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[PATH_MAX];
static int armed, failure, lacking; /* failure 0 kills */
static long count, at, room = -1;   /* room: bytes that the disk still takes, -1 for any number */

void faults_arm(const char *where, long which, int number, long bytes, int lacks) {
    strncpy(folder, where, PATH_MAX - 1);
    count = 0, at = which, failure = number, room = bytes, lacking = lacks, armed = 1;
}

long faults_disarm(void) {
    armed = 0;
    return count;
}

static int named(const char *path) { return path[0] != '/' || !strncmp(path, folder, strlen(folder)); }

static int opened(int descriptor) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    /* What the command says is not what it makes. */
    return length > 0 && path[0] == '/' && named(path) && !strstr(path, "/said");
}

static int fails(int concerned) {
    if (!armed || !concerned || ++count != at) return 0;
    if (!failure) kill(getpid(), SIGKILL);
    errno = failure;
    return 1;
}

static int lacks(int concerned) {
    if (!armed || !concerned || !lacking) return 0;
    errno = lacking;
    return 1;
}

static size_t fitting(int concerned, size_t size) {
    if (!armed || !concerned || room < 0) return size;
    if (size > (size_t)room) size = room;
    room -= size;
    return size;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CALL(kind, name, declared, concerned, ...) \
    kind name declared { return fails(concerned) ? -1 : REAL(name)(__VA_ARGS__); }
#define LACKED(kind, name, declared, concerned, ...) \
    kind name declared { return lacks(concerned) || fails(concerned) ? -1 : REAL(name)(__VA_ARGS__); }
#define WRITE(name, declared, ...)                                        \
    ssize_t name declared {                                               \
        int concerned = armed && opened(descriptor);                      \
        if (fails(concerned)) return -1;                                  \
        size_t fits = fitting(concerned, size);                           \
        if (size && !fits) return errno = ENOSPC, -1;                     \
        size = fits;                                                      \
        return REAL(name)(__VA_ARGS__);                                   \
    }
#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...) {                          \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;         \
        va_end(rest);                                                     \
        return fails((flags & O_CREAT) && named(path) && !strstr(path, "said")) ? -1 : REAL(name)(path, flags, mode); \
    }

WRITE(write, (int descriptor, const void *data, size_t size), descriptor, data, size)
WRITE(pwrite, (int descriptor, const void *data, size_t size, off_t start), descriptor, data, size, start)
WRITE(pwrite64, (int descriptor, const void *data, size_t size, off64_t start), descriptor, data, size, start)
OPEN(open)
OPEN(open64)
CALL(int, ftruncate, (int descriptor, off_t size), opened(descriptor), descriptor, size)
CALL(int, ftruncate64, (int descriptor, off64_t size), opened(descriptor), descriptor, size)
CALL(int, rename, (const char *from, const char *to), named(to), from, to)
CALL(int, unlink, (const char *path), named(path), path)
CALL(int, mkdir, (const char *path, mode_t mode), named(path), path, mode)
CALL(int, rmdir, (const char *path), named(path), path)
LACKED(int, fsync, (int descriptor), opened(descriptor), descriptor)
LACKED(int, link, (const char *from, const char *to), named(to), from, to)
LACKED(int, chmod, (const char *path, mode_t mode), named(path), path, mode)
LACKED(int, fchmod, (int descriptor, mode_t mode), opened(descriptor), descriptor, mode)
LACKED(int, flock, (int descriptor, int operation), opened(descriptor), descriptor, operation)
LACKED(int, renameat2, (int at_from, const char *from, int at_to, const char *to, unsigned flags), named(to), at_from,
       from, at_to, to, flags)
