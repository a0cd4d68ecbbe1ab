/* main_firecracker.c — the program `firecracker`: `ec1 api` alone, with few libraries, so that it
 * starts fast and is at home in a jail. */
#include "cli/cmd.h"

int main(int argc, char **argv)
{
    cmd_begin();
    return cmd_api(argc, argv);
}
