# Bars: the ratios of a benchmark as an SVG.
package Bars;
use strict;
use warnings;

my %colour = (none => '#9aa0a6', builtin => '#9aa0a6', pglogical => '#c9a227', ferry => '#1f6f8b', 'ferry zstd' => '#45a29e', decoded => '#d0d3d6');
my ($left, $width, $bar, $most) = (300, 420, 14, 4);

# bars: [ what, system, figure, ratio to the first ]; longer than $most is cut
sub draw
{
	my ($file, $bars) = @_;
	my ($y, $body, $last) = (20, '', '');
	for my $b (@$bars)
	{
		my ($what, $system, $figure, $ratio) = @$b;
		if ($what ne $last)
		{
			$y += 10;
			$body .= sprintf qq{<text x="%d" y="%d" text-anchor="end">%s</text>\n}, $left - 8, $y + 11, _escape($what);
			$last = $what;
		}
		my $w = $width * ($ratio > $most ? $most : $ratio) / $most;
		$body .= sprintf qq{<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>\n}, $left, $y, $w, $bar - 2, $colour{$system} // '#888';
		$body .= sprintf qq{<text x="%.1f" y="%d">%s %.0f (x%.2f)</text>\n}, $left + $w + 4, $y + 10, _escape($system), $figure, $ratio;
		$y += $bar;
	}
	open my $f, '>', $file or die "$file: $!";
	printf $f qq{<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">\n},
	  $left + $width + 200, $y + 20;
	printf $f qq{<rect width="100%%" height="100%%" fill="white"/>\n<line x1="%.1f" y1="20" x2="%.1f" y2="%d" stroke="#444" stroke-dasharray="3,3"/>\n},
	  $left + $width / $most, $left + $width / $most, $y;
	print $f $body, "</svg>\n";
	close $f;
	return;
}

sub _escape { my ($s) = @_; $s =~ s/&/&amp;/g; $s =~ s/</&lt;/g; return $s; }

1;
