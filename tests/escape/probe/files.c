/* Ways out of a root, and what can be opened, made or filled in it. */
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static char **words;
static int count;

/* The classic: a root below, a descriptor above it, and up. */
static void
climb(void)
{
    int above = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mkdir("/tmp/below", 0700);
    int result = chroot("/tmp/below");
    fact_result("chroot", result);
    if (result == 0 && above >= 0 && fchdir(above) == 0) {
        for (int i = 0; i < 64; i++) {
            if (chdir("..") != 0) {
                break;
            }
        }
        fact_result("chroot .", chroot("."));
    }
    for (int i = 0; i < count; i++) {
        fact_file(words[i], words[i]);
    }
}

static void
nested_climb(void)
{
    if (nested(CLONE_NEWNS) == 0) {
        climb();
    }
}

static void
chroot_break(int argc, char **argv)
{
    words = argv, count = argc;
    in_child(climb);
}

static void
chroot_break_nested(int argc, char **argv)
{
    words = argv, count = argc;
    in_child(nested_climb);
}

static void
read_all(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        fact_file(argv[i], argv[i]);
    }
}

/* Mount points whose options say ro. */
static size_t
read_only_mounts(char found[][256], size_t room)
{
    char line[1024];
    char point[256];
    char options[256];
    size_t number = 0;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (file != NULL && number < room && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%*s %*s %*s %*s %255s %255s", point, options) == 2 &&
            (strncmp(options, "ro,", 3) == 0 || strcmp(options, "ro") == 0)) {
            memcpy(found[number++], point, sizeof point);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return number;
}

static void
make_writable(const char *how)
{
    static char points[128][256];
    char name[300];
    size_t number = read_only_mounts(points, 128);
    struct mount_attr attributes = {.attr_clr = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
                                                MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
    for (size_t i = 0; i < number; i++) {
        long result =
            syscall(SYS_mount_setattr, AT_FDCWD, points[i], 0, &attributes, sizeof attributes);
        snprintf(name, sizeof name, "%s setattr %s", how, points[i]);
        fact_result(name, result);
        int tree =
            (int)syscall(SYS_open_tree, AT_FDCWD, points[i], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (tree >= 0) {
            result = syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes,
                             sizeof attributes);
            snprintf(name, sizeof name, "%s clone %s", how, points[i]);
            fact_result(name, result);
            close(tree);
        }
    }
    fact_number(how, (long long)number);
}

static void
unlock_plain(void)
{
    make_writable("plain");
}

static void
unlock_nested(void)
{
    if (nested(CLONE_NEWNS) == 0) {
        make_writable("nested");
    }
}

static void
unlock(int argc, char **argv)
{
    (void)argc, (void)argv;
    in_child(unlock_plain);
    in_child(unlock_nested);
}

/* Every file below a directory that can be opened for writing; processes' own directories are
 * theirs. */
static void
walk(const char *directory, int depth)
{
    char path[512];
    struct dirent *entry;
    DIR *stream = depth > 12 ? NULL : opendir(directory);
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        const char *name = entry->d_name;
        if (name[0] == '.' ||
            (depth == 0 && ((name[0] >= '0' && name[0] <= '9') || strstr(name, "self") != NULL))) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", directory, name);
        if (entry->d_type == DT_DIR) {
            walk(path, depth + 1);
        } else if (entry->d_type == DT_REG) {
            int number = open(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
            if (number >= 0) {
                struct stat
                    info; /* what is covered by a device looks like a file of its directory */
                if (fstat(number, &info) == 0 && S_ISREG(info.st_mode)) {
                    fact(path, "done");
                }
                close(number);
            }
        }
    }
    if (stream != NULL) {
        closedir(stream);
    }
}

static void
walk_all(void)
{
    for (int i = 0; i < count; i++) {
        walk(words[i], 0);
    }
}

static void
nested_walk(void)
{
    if (nested(CLONE_NEWNS | CLONE_NEWCGROUP) == 0) {
        walk_all();
    }
}

static void
writable(int argc, char **argv)
{
    words = argv, count = argc;
    in_child(walk_all);
    in_child(nested_walk);
}

static void
open_handle(const char *how, const char *path)
{
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } place = {.handle = {.handle_bytes = MAX_HANDLE_SZ}};
    char name[128];
    int mount_id = 0;
    int base = open(path, O_RDONLY | O_CLOEXEC);
    if (base < 0) {
        return;
    }
    snprintf(name, sizeof name, "%s own %s", how, path);
    if (name_to_handle_at(AT_FDCWD, path, &place.handle, &mount_id, 0) == 0) {
        fact_result(name, open_by_handle_at(base, &place.handle, O_RDONLY | O_CLOEXEC));
    }
    static const unsigned char root_of_ext4[8] = {2, 0, 0, 0, 0, 0, 0, 0}; /* "shocker" */
    place.handle.handle_bytes = sizeof root_of_ext4;
    place.handle.handle_type = 1;
    memcpy(place.handle.f_handle, root_of_ext4, sizeof root_of_ext4);
    snprintf(name, sizeof name, "%s root %s", how, path);
    fact_result(name, open_by_handle_at(base, &place.handle, O_RDONLY | O_CLOEXEC));
    close(base);
}

static void
handles_nested(void)
{
    if (nested(CLONE_NEWNS) == 0) {
        open_handle("nested", "/");
        open_handle("nested", "/usr");
    }
}

static void
handles(int argc, char **argv)
{
    (void)argc, (void)argv;
    open_handle("plain", "/");
    open_handle("plain", "/usr");
    in_child(handles_nested);
}

static void
mount_calls(void)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
    int context = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    fact_result("fsopen", context);
    if (context >= 0) {
        syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
        fact_result("fsmount", syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0));
        close(context);
    }
    fact_result("fspick", syscall(SYS_fspick, AT_FDCWD, "/tmp", FSPICK_CLOEXEC));
    fact_result("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/tmp", OPEN_TREE_CLONE));
    fact_result("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/mnt", 0));
    fact_result("mount_setattr",
                syscall(SYS_mount_setattr, AT_FDCWD, "/tmp", 0, &attributes, sizeof attributes));
    fact_result("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    fact_result("umount2", umount2("/tmp", MNT_DETACH));
    fact_result("pivot_root", syscall(SYS_pivot_root, "/tmp", "/tmp"));
    fact_result("chroot", chroot("/tmp"));
}

static void
nested_mount_calls(void)
{
    if (nested(CLONE_NEWNS) == 0) {
        mount_calls();
    } else {
        fact_result("user namespace", -1);
    }
}

static void
mounts(int argc, char **argv)
{
    (void)argc, (void)argv;
    in_child(mount_calls);
}

static void
mounts_nested(int argc, char **argv)
{
    (void)argc, (void)argv;
    guarded("user namespace", nested_mount_calls);
}

static void
make_devices(void)
{
    static const struct {
        const char *name;
        mode_t kind;
        unsigned int major, minor;
    } all[] = {{"mem", S_IFCHR, 1, 1},    {"kmsg", S_IFCHR, 1, 11},  {"port", S_IFCHR, 1, 4},
               {"kvm", S_IFCHR, 10, 232}, {"tun", S_IFCHR, 10, 200}, {"fuse", S_IFCHR, 10, 229},
               {"loop", S_IFBLK, 7, 0},   {"disk", S_IFBLK, 259, 0}, {"vda", S_IFBLK, 254, 0}};
    char path[64];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        snprintf(path, sizeof path, "/tmp/device-%s", all[i].name);
        int result = mknod(path, all[i].kind | 0600, makedev(all[i].major, all[i].minor));
        fact_result(all[i].name, result);
        if (result == 0) {
            int number = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
            fact_result(path, number);
            unlink(path);
        }
        snprintf(path, sizeof path, "/dev/%s", all[i].name);
        fact_result(path, open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC));
    }
}

static void
nested_devices(void)
{
    if (nested(CLONE_NEWNS) == 0) {
        make_devices();
    }
}

static void
devices(int argc, char **argv)
{
    (void)argc, (void)argv;
    in_child(argc > 0 ? nested_devices : make_devices);
}

static void
attributes(int argc, char **argv)
{
    static const char *const names[] = {"trusted.overlay.redirect", "trusted.overlay.opaque",
                                        "trusted.overlay.metacopy", "security.capability"};
    static const unsigned char capability[20] = {1, 0, 0, 2, 0xff, 0xff, 0xff, 0xff};
    char path[256];
    snprintf(path, sizeof path, "%s/attributes", argc > 0 ? argv[0] : "/tmp");
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fact_result(names[i], setxattr(path, names[i], capability, sizeof capability, 0));
    }
    unlink(path);
}

/* As many files as fit, then as many bytes. */
static void
fill(int argc, char **argv)
{
    const char *directory = argc > 0 ? argv[0] : "/tmp";
    char path[300];
    long files = 0;
    int number = 0;
    for (; files < 200000; files++) {
        snprintf(path, sizeof path, "%s/fill-%ld", directory, files);
        number = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (number < 0) {
            break;
        }
        close(number);
    }
    fact_result("files", number);
    for (long i = 0; i < files; i++) {
        snprintf(path, sizeof path, "%s/fill-%ld", directory, i);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/fill", directory);
    number = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    long long bytes = 0;
    int result = 0;
    while (bytes < (1LL << 30) && (result = fallocate(number, 0, bytes, 16 << 20)) == 0) {
        bytes += 16 << 20;
    }
    fact_result("bytes", result);
    unlink(path);
    close(number);
}

static int
reach(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    if (length >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, name, length);
    if (name[0] == '@') {
        address.sun_path[0] = '\0';
    }
    int number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int done = connect(number, (struct sockaddr *)&address,
                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    if (done != 0) {
        int error = errno;
        close(number);
        errno = error;
        return -1;
    }
    return number;
}

static void
connect_all(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        fact_result(argv[i], reach(argv[i]));
    }
}

static void
names(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        struct dirent *entry;
        DIR *stream = opendir(argv[i]);
        while (stream != NULL && (entry = readdir(stream)) != NULL) {
            if (entry->d_name[0] != '.') {
                fact(entry->d_name, argv[i]);
            }
        }
        if (stream != NULL) {
            closedir(stream);
        }
    }
}

const struct verb files_verbs[] = {
    {"chroot-break", chroot_break},
    {"chroot-break-nested", chroot_break_nested},
    {"read", read_all},
    {"unlock", unlock},
    {"writable", writable},
    {"handles", handles},
    {"mounts", mounts},
    {"mounts-nested", mounts_nested},
    {"devices", devices},
    {"attributes", attributes},
    {"fill", fill},
    {"connect", connect_all},
    {"names", names},
    {NULL, NULL},
};
