/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_image.c: see ctl_image.h. */
#include "api/ctl_image.h"

#include "vmm/image.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DONE = 0, FAILED = 1, MISUSED = 2 };

static const char usage[] =
    "Usage: mayflyctl image commit [--base FILE] --output NEW LAYER...\n"
    "       mayflyctl image info LAYER...\n"
    "\n"
    "Works on the layers of copy-on-write drives: what snapshots and forks have left, or the\n"
    "overlay file of a machine that has ended. Nothing that is there is changed, and a layer that\n"
    "a machine writes to is refused.\n"
    "\n"
    "`commit` makes one of many. LAYERs are named from the lowest up, each lying on the one\n"
    "before it. With --base, the drive's own file, NEW is an image with all that they hold, for\n"
    "a drive without them. Without it NEW is a layer in place of them all: for `layers` of a\n"
    "drive, or of drive_overrides in a load of the snapshot that they belong to. `info` tells of\n"
    "each layer how large its drive is, what it lies on, and how much it holds.\n"
    "\n"
    "  -b, --base FILE    the file that the lowest layer lies on\n"
    "  -o, --output NEW   what is made; is not there yet\n"
    "  -h, --help         this text\n"
    "\n"
    "Exit status: 0 when it is done, 1 when it cannot be (with a sentence), 2 for wrong usage.\n"
    "\n"
    "Examples:\n"
    "  mayflyctl image commit -b base.ext4 -o flat.ext4 a.state.root.*.overlay vm7.overlay\n"
    "  mayflyctl image commit -o merged.overlay low.overlay high.overlay\n";

static int misuse(const char *why)
{
    fprintf(stderr, "mayflyctl: %s. See mayflyctl image --help.\n", why);
    return MISUSED;
}

static int complain(const struct err *e)
{
    fprintf(stderr, "mayflyctl: %s\n", e->text);
    return FAILED;
}

/* One line that is written over, for a person who waits; only whole percents. */
static void report(uint64_t done, uint64_t all)
{
    static unsigned last;
    unsigned percent = (unsigned)(done / (all / 100 + 1));

    if (done < all && percent <= last)
        return;
    last = percent;
    if (done < all)
        fprintf(stderr, "\r%3u %% of %" PRIu64 " MiB", percent, all / MIB);
    else
        fputs("\r                              \r", stderr);
}

static int commit(const char *base, const char *output, char **layers, int count)
{
    const struct image_commit how = {
        .base = base,
        .layer = layers,
        .count = (unsigned)count,
        .output = output,
        .report = isatty(STDERR_FILENO) ? report : NULL,
    };
    struct err e;

    if (!output)
        return misuse("commit needs --output");
    if (count < 1 || count > UINT8_MAX)
        return misuse("commit needs 1 to 255 layers");
    return image_commit(&how, &e) ? complain(&e) : DONE;
}

static int info(char **layers, int count)
{
    int status = DONE;

    if (count < 1)
        return misuse("info needs a layer");
    for (int i = 0; i < count; i++) {
        struct image_info info;
        const struct layer_head *head = &info.head;
        struct err e;

        if (image_info(layers[i], &info, &e)) {
            status = complain(&e);
            continue;
        }
        printf("%s: a layer of a drive of %" PRIu64 " bytes, %s\n"
               "  id       %016" PRIx64 "%016" PRIx64 "\n",
               layers[i], head->size, head->complete ? "complete" : "an overlay", head->id.word[0],
               head->id.word[1]);
        if (layer_id_is_none(&head->below))
            printf("  lies on  the drive's file\n");
        else
            printf("  lies on  %016" PRIx64 "%016" PRIx64 "\n", head->below.word[0],
                   head->below.word[1]);
        printf("  holds    %" PRIu64 " blocks of %u, %" PRIu64 " bytes on the disk\n", info.blocks,
               LAYER_BLOCK, info.on_disk);
    }
    return status;
}

int ctl_image(int argc, char **argv)
{
    static const struct option longs[] = {
        {"base", required_argument, NULL, 'b'},
        {"output", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *base = NULL, *output = NULL;
    int c;

    while ((c = getopt_long(argc, argv, "b:o:h", longs, NULL)) != -1) {
        switch (c) {
        case 'b':
            base = optarg;
            break;
        case 'o':
            output = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            return DONE;
        default:
            return misuse("that is no option of mine");
        }
    }
    argc -= optind;
    argv += optind;
    if (argc > 0 && strcmp(argv[0], "commit") == 0)
        return commit(base, output, argv + 1, argc - 1);
    if (argc > 0 && strcmp(argv[0], "info") == 0)
        return info(argv + 1, argc - 1);
    return misuse("`commit` or `info` is needed");
}
