/* fuzz_terminal.c - any bytes of a framed client: keys are bodies, never more than came. */
#include <stdlib.h>

#include "frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *keys = malloc(size ? size : 1);

    if (keys == NULL)
        return 0;
    size_t found = frames_keys(data, size, keys);
    if (found != FRAMES_MORE && found > size)
        abort();
    free(keys);
    return 0;
}
