/* main_jailer.c — the program `jailer`. */
#include "cli/cmd.h"
#include "jailer/jailer.h"

int main(int argc, char **argv)
{
    cmd_begin();
    return jailer_main(argc, argv, FC_VERSION);
}
