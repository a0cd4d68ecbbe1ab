from microvm import ok


def test_a_guest_without_drive(vm):
    vm.configure(root=False)
    vm.start()
    vm.ready()
    print(vm.sh("cat /proc/cmdline; ls /dev | head -50; uname -a; lsmod; cat /proc/iomem"))
    assert vm.reboot() == 0
