/* Preloaded into the server: does to its log and its clock what stands in the file named by TROUBLE, in words.
 *
 *   sync       no flush succeeds
 *   write      no write to the log succeeds
 *   full       writes to the log come ever less far, and then there is no room
 *   ahead      there is no room for zeros that are written ahead
 *   truncate   no file of the log can be cut
 *   read-only  nothing can be opened for writing, and no folder made
 *   clock+1h   the clock is an hour ahead
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int there_is(const char *word) {
    const char *path = getenv("TROUBLE");
    char words[128];
    if (path == NULL) return 0;
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) return 0;
    ssize_t length = read(file, words, sizeof words - 1);
    close(file);
    words[length < 0 ? 0 : length] = 0;
    return strstr(words, word) != NULL;
}

static int fails(const char *word, int error) {
    int failing = there_is(word);
    if (failing) errno = error;
    return failing;
}

static int is_log(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "/journal/") != NULL;
}

int fdatasync(int file) {
    return fails("sync", EIO) ? -1 : (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    return fails("sync", EIO) ? -1 : (int)syscall(SYS_fsync, file);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
    static const char zeros[64];
    if (is_log(file)) {
        if (fails("write", EIO)) return -1;
        if (length >= sizeof zeros && memcmp(bytes, zeros, sizeof zeros) == 0 && fails("ahead", ENOSPC)) return -1;
        if (fails("full", ENOSPC)) {
            if (length < 64) return -1;
            length /= 2;
        }
    }
    return syscall(SYS_pwrite64, file, bytes, length, offset);
}

int ftruncate64(int file, off64_t length) {
    return is_log(file) && fails("truncate", EIO) ? -1 : (int)syscall(SYS_ftruncate, file, length);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (flags & (O_WRONLY | O_RDWR | O_CREAT) && fails("read-only", EROFS)) return -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int mkdir(const char *path, mode_t mode) {
    int is_new = access(path, F_OK) != 0;
    return is_new && fails("read-only", EROFS) ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int answer = (int)syscall(SYS_clock_gettime, clock, now);
    if (answer == 0 && clock == CLOCK_REALTIME && there_is("clock+1h")) now->tv_sec += 3600;
    return answer;
}
